//go:build tools

// Package tools names the commands that the node of the end-to-end tests builds, so that go.mod and go.sum pin them and
// everything they need.
package tools

import (
	_ "github.com/containernetworking/plugins/plugins/ipam/host-local"
	_ "github.com/containernetworking/plugins/plugins/main/bridge"
	_ "github.com/containernetworking/plugins/plugins/main/loopback"
)
