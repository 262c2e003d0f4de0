package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/acmed/acmed/cmd/acmed/internal/setup"
)

// errInterrupted ends a command whose question was answered with Ctrl-C.
var errInterrupted = errors.New("interrupted; nothing was changed")

// asker asks the operator. Questions go to the terminal on standard error, so that standard output can go elsewhere. It
// never asks in a pipe, and never with yes.
type asker struct {
	a        *app
	terminal bool
	yes      bool
	lines    chan string // from the terminal; nil until something was asked
}

func newAsker(a *app, yes bool) *asker {
	return &asker{a: a, terminal: term.IsTerminal(int(os.Stdin.Fd())), yes: yes}
}

// can reports whether questions can be asked.
func (q *asker) can() bool { return q.terminal && !q.yes }

// line asks for one line. Ctrl-C and the end of the input are [errInterrupted].
func (q *asker) line(ctx context.Context, question string) (string, error) {
	if q.lines == nil {
		q.lines = make(chan string)
		go q.read(q.lines)
	}
	q.a.errf("%s ", question)
	select {
	case text, ok := <-q.lines:
		if ok {
			return text, nil
		}
	case <-ctx.Done():
	}
	q.a.errf("\n")
	return "", errInterrupted
}

// secret asks for one line that the terminal does not show.
func (q *asker) secret(ctx context.Context, question string) (string, error) {
	fd := int(os.Stdin.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", err
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return "", err
	}
	text, err := q.line(ctx, question)
	q.a.errf("\n")
	return text, errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, before))
}

// read hands over the lines of the terminal until it ends. It is left behind when the program ends.
func (q *asker) read(into chan<- string) {
	defer close(into)
	scanner := bufio.NewScanner(os.Stdin)
	for scanner.Scan() {
		into <- strings.TrimSpace(scanner.Text())
	}
}

// confirm asks for a yes. Enter alone is the given answer.
func (q *asker) confirm(ctx context.Context, question string, enter bool) (bool, error) {
	choices := map[bool]string{true: "[Y/n]", false: "[y/N]"}[enter]
	for {
		text, err := q.line(ctx, question+" "+choices)
		if err != nil {
			return false, err
		}
		switch strings.ToLower(text) {
		case "":
			return enter, nil
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
		q.a.errf("please answer y or n\n")
	}
}

// agree asks whether to go ahead. Without a terminal and without --yes it refuses, and says what to type.
func (q *asker) agree(ctx context.Context, question string) error {
	if q.yes {
		return nil
	}
	if !q.terminal {
		return &exitError{exitUsage, fmt.Errorf("nothing was changed: there is no terminal to confirm on; to go ahead, type: %s --yes", typed())}
	}
	switch ok, err := q.confirm(ctx, question, true); {
	case err != nil:
		return err
	case !ok:
		return errors.New("nothing was changed")
	}
	return nil
}

// askMain completes what a new main file needs. A private CA has no terms of service.
func (a *app) askMain(ctx context.Context, q *asker, m *setup.Machine, main *setup.Main, private bool) (err error) {
	if m.Config != nil {
		return nil
	}
	if main.Email == "" && q.can() {
		if main.Email, err = q.line(ctx, "email address for notices of the CA (Enter for none):"); err != nil {
			return err
		}
	}
	switch {
	case main.AgreeTOS, private:
		return nil
	case !q.can():
		return &exitError{exitUsage, fmt.Errorf("nothing was changed: read the CA's terms of service (for Let's Encrypt: https://letsencrypt.org/repository/), and agree with: %s --agree-tos", typed())}
	}
	main.AgreeTOS, err = q.confirm(ctx, "do you agree to the CA's terms of service (for Let's Encrypt: https://letsencrypt.org/repository/)?", false)
	if err == nil && !main.AgreeTOS {
		err = errors.New("terms of service not accepted; nothing was changed")
	}
	return err
}

// typed is the command line as a shell reads it.
func typed() string {
	words := []string{"acmed"}
	for _, w := range os.Args[1:] {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return !strings.ContainsRune(plainRunes, r) }) {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

const plainRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./:,@%+"
