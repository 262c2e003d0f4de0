// Command testca runs a certificate authority on this machine for demonstrations and experiments: Pebble with a name
// server for which every name is 127.0.0.1, or another address. It prints the URL of the ACME directory and the address of the name
// server, one per line, writes the roots to the files it is asked for, and forgets everything when it ends: on SIGINT,
// SIGTERM, the death of its parent, or, with -stdin, the end of its input.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/acmed/acmed/internal/acmetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "testca:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("testca", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:14000", "address of the ACME directory")
	dns := flags.String("dns", "127.0.0.1:0", "address of the name server; port 0 takes a free one")
	address := flags.String("address", "127.0.0.1", "IPv4 address of every name")
	ask := flags.String("ask", "", "name server that the CA asks instead of its own")
	httpPort := flags.Int("http-port", 0, "port where http-01 is validated; 0 takes a free one")
	tlsPort := flags.Int("tls-port", 0, "port where tls-alpn-01 is validated; 0 takes a free one")
	validity := flags.Duration("validity", 90*24*time.Hour, "lifetime of certificates of the profile default")
	host := flags.String("host", "", "name of a CA to stand in for: its directory is then at https://HOST/directory")
	root := flags.String("root", "", "write the root of the directory's own TLS certificate to this file")
	issuing := flags.String("issuing-root", "", "write the root of issued certificates to this file")
	watch := flags.Bool("stdin", false, "end when the standard input ends")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := dieWithParent(); err != nil {
		return err
	}
	ca, err := acmetest.New(acmetest.WithListen(*listen, *dns), acmetest.WithPorts(*httpPort, *tlsPort),
		acmetest.WithOnlyProfile("default", *validity), acmetest.WithHost(*host))
	if err != nil {
		return err
	}
	ca.DNS.SetDefaultDNSIPv4(*address)
	if *ask != "" {
		ca.DNS.Addr = *ask
		if err := ca.Forget(); err != nil { // the new CA asks there
			return errors.Join(err, ca.Close())
		}
	}
	err = announce(ca, stdout, map[string][]byte{*root: ca.RootPEM, *issuing: ca.IssuingRootPEM(0)})
	if err != nil {
		return errors.Join(err, ca.Close())
	}
	var cancel context.CancelFunc
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	if *watch {
		go func() {
			defer cancel()
			_, _ = io.Copy(io.Discard, stdin)
		}()
	}
	<-ctx.Done()
	return ca.Close()
}

// dieWithParent asks the kernel for SIGTERM when the process that started this one ends.
func dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0); err != nil {
		return fmt.Errorf("follow the parent process: %w", err)
	}
	return nil
}

// announce writes the files and then the lines that tell a script that the CA is ready.
func announce(ca *acmetest.CA, stdout io.Writer, files map[string][]byte) error {
	for name, content := range files {
		if name == "" {
			continue
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return fmt.Errorf("write root: %w", err)
		}
	}
	_, err := fmt.Fprintf(stdout, "directory %s\ndns %s\nhttp-port %d\ntls-port %d\n", ca.Directory, ca.DNS.Addr, ca.HTTPPort, ca.TLSPort)
	return err
}
