package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/store"
)

const (
	exitOK         = 0
	exitFailed     = 1
	exitUsage      = 2
	exitAttention  = 3
	exitPermission = 4
	exitTemporary  = 75 // EX_TEMPFAIL of sysexits.h
)

// exitError is an error with an exit code of its own. Without a message only the code counts: all was printed already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usageError(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUsage, fmt.Errorf("%w; 'acmed help' shows the usage", err)}
}

// beginning says where to begin when there is no configuration at all.
func (a *app) beginning(err error) error {
	var conf *config.Error
	if !errors.As(err, &conf) || conf.Problems[0].File != a.config {
		return err
	}
	if _, missing := os.Stat(a.config); !errors.Is(missing, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w; start with 'acmed enable', or name another file with -c", err)
}

// exitCode is the one place that turns an error into an exit code.
func exitCode(err error) int {
	var own *exitError
	var conf *config.Error
	var asked *control.Error
	var locked *store.LockedError
	var wish *setup.UsageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &conf), errors.As(err, &wish):
		return exitUsage
	case errors.As(err, &asked):
		return codeExit(asked.Code)
	case errors.As(err, &locked), errors.Is(err, fs.ErrPermission):
		return exitPermission
	case strings.HasPrefix(err.Error(), "unknown command"): // cobra has no type for it
		return exitUsage
	}
	return exitFailed
}

func codeExit(c control.Code) int {
	switch c {
	case control.CodeUsage, control.CodeUnknown, control.CodeConfig:
		return exitUsage
	case control.CodePartial:
		return exitAttention
	case control.CodePermission, control.CodeStopping:
		return exitPermission
	}
	return exitFailed
}

// outcomes counts the results of a renewal.
type outcomes struct {
	failed, limited, waiting int
	ail                      int       // nothing failed now, but status has something to tell
	until                    time.Time // the earliest time at which a limited or waiting one goes on
}

func count(r control.Report) (o outcomes) {
	for _, res := range r.Results {
		switch res.Outcome {
		case control.OutcomeFailed:
			o.failed++
			continue
		case control.OutcomeLimited:
			o.limited++
		case control.OutcomeWaiting:
			o.waiting++
		default:
			if res.Health != "" && res.Health != renewal.HealthOK {
				o.ail++
			}
			continue
		}
		if o.until.IsZero() || res.Next.Before(o.until) {
			o.until = res.Next
		}
	}
	return o
}

// reportExit turns the outcomes of a renewal into an error that carries the exit code, or nil.
func reportExit(r control.Report) error {
	switch o := count(r); {
	case o == (outcomes{}):
		return nil
	case o.failed == 0 && o.ail > 0:
		return &exitError{code: exitAttention}
	case o.failed+o.limited == 0:
		return &exitError{exitTemporary, fmt.Errorf("a target deferred the installation; next attempt at %s", stamp(o.until))}
	case o.failed == 0:
		return &exitError{exitTemporary, fmt.Errorf("the CA accepts no further order before %s", stamp(o.until))}
	case o.failed == len(r.Results):
		return &exitError{code: exitFailed}
	}
	return &exitError{code: exitAttention}
}
