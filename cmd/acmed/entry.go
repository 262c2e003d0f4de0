//go:build !manual

package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) //nolint:forbidigo // the one place that ends the process
}
