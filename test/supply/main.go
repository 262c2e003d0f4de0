// Command supply says what acmed is made of: the modules of a program with their licenses, and what is known against them.
//
//	supply licenses          the page docs/LICENSES.md; fails if a license is not allowed
//	supply notices DIR       the texts of the licenses of what is linked into the program that DIR makes
//	supply sbom PROGRAM      a CycloneDX bill of materials of a built program
//	supply vuln GOVULNCHECK RELEASE DIR...
//	                         known vulnerabilities; RELEASE is the version of Go that releases are built with
//
// It runs at the root of the repository.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "supply:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "licenses":
		page, err := licensesPage(".")
		fmt.Print(page)
		return err
	case len(args) == 2 && args[0] == "notices":
		return notices(os.Stdout, args[1])
	case len(args) == 2 && args[0] == "sbom":
		return sbom(os.Stdout, args[1])
	case len(args) > 3 && args[0] == "vuln":
		return vulnerabilities(args[1], args[2], args[3:])
	}
	return errors.New("usage: supply licenses | notices DIR | sbom PROGRAM | vuln GOVULNCHECK RELEASE DIR…")
}
