//go:build manual

package main

import (
	"fmt"
	"os"

	"github.com/acmed/acmed/internal/manual"
)

// main writes the manual pages, and so takes the place of acmed in a program made with this tag. Arguments: a directory, and
// the commented configuration files. "make man" runs it.
func main() {
	if err := manual.Write(newRoot(&app{}), version, os.Args[1], os.Args[2:]...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailed) //nolint:forbidigo // the main function of a program
	}
}
