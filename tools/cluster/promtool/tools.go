//go:build tools

// Package tools names the command that tests of alert rules use, so that go.mod and go.sum pin it and everything it needs.
package tools

import _ "github.com/prometheus/prometheus/cmd/promtool"
