// Command etcd is the etcd server: the module's own command cannot be imported, but its entry point can.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
