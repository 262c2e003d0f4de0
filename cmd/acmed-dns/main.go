// Acmed-dns is the DNS worker of acmed: a small program with every DNS provider of lego. Acmed runs it as a child, one per
// credential, and speaks JSON lines with it (docs/DNS-WORKER.md). People run it to see which providers there are and
// which variables they take.
//
// It is a module of its own so that the daemon links no vendor's library. It reads no configuration: everything comes
// from its environment, which acmed sets to the credential's variables alone.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/go-acme/lego/v4/providers/dns"

	"github.com/acmed/acmed/cmd/acmed-dns/internal/manual"
	"github.com/acmed/acmed/cmd/acmed-dns/internal/serve"
	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
)

// version is set by the linker for releases.
var version = "devel"

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "acmed-dns:", err)
		os.Exit(1) //nolint:forbidigo // the main function of a program
	}
}

func run(args []string, in, out *os.File) error {
	switch {
	case len(args) == 0 && !terminal(in):
		return worker(in, out)
	case len(args) == 1 && args[0] == "list":
		return catalog.List(out)
	case len(args) == 2 && args[0] == "describe":
		return catalog.Describe(out, args[1])
	case len(args) == 1 && args[0] == "version":
		_, err := fmt.Fprintf(out, "acmed-dns %s (lego %s)\n", version, legoVersion())
		return err
	}
	_, err := io.WriteString(out, manual.Usage)
	return err
}

// worker serves one credential until the input ends. It ignores the signals by which a service is stopped: acmed gets
// them too, still needs its worker to remove the records, and then closes the input. A broken pipe is ignored because
// records are also removed when acmed was killed.
func worker(in, out *os.File) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	os.Stdout = os.Stderr // a library that prints must not break the protocol
	s := serve.Server{Open: dns.NewDNSChallengeProviderByName, Version: version + ", lego " + legoVersion()}
	return s.Run(in, out)
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func legoVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/go-acme/lego/v4" {
			return m.Version
		}
	}
	return "unknown"
}
