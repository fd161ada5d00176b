//go:build tools

// Package tools names the command that the local cluster builds, so that go.mod and go.sum pin it and everything it needs.
package tools

import _ "github.com/nats-io/nats-server/v2"
