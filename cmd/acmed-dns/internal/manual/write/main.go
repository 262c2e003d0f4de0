// Write prints acmed-dns(1) for the version that is its argument. "make man" runs it.
package main

import (
	"fmt"
	"os"

	"github.com/acmed/acmed/cmd/acmed-dns/internal/manual"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: write VERSION")
		os.Exit(2) //nolint:forbidigo // the main function of a program
	}
	fmt.Print(manual.Page(os.Args[1]))
}
