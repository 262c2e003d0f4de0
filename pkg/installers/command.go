package installers

import (
	"context"
	"errors"
	"time"
)

// Command is one program with its arguments.
type Command struct {
	Argv       []string      // Argv[0] is an absolute path; no shell ever sees any of it
	Env        []string      // "KEY=value", added to a fixed PATH and LANG; nothing else of our environment is passed
	Dir        string        // working directory; "" is "/"
	Timeout    time.Duration // 0 is a minute
	Stdin      []byte        // "" is an empty input
	MaxOutput  int           // refuse a program that prints more than this many bytes; 0 keeps 64 KiB and drops the rest
	WithStderr bool          // return what it writes to standard error too, in order
}

// Run is documented with its body.
func (c Command) Run(_ context.Context) ([]byte, error) { return nil, errors.New("not ready") }
