// Command write puts the JSON schemas of the configuration into a directory; "make install" ships them. Arguments: the directory.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/acmed/acmed/internal/schema"
)

func main() {
	files, err := schema.Files(".")
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(os.Args[1], name), text, 0o644)) //nolint:gosec,forbidigo // a new file of a build, for everybody to read
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // the main function of a program
	}
}
