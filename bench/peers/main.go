// Command peers measures how long programs take for their first certificate, one after the other, against one test CA that adds no delays:
// the time from the start of the program to the certificate's file, and the most memory of the program or of one of its
// children. Programs that are not installed are left out. With -sites it then serves many sites by nginx, from empty until
// every one is verified. "make bench-peers" runs it; it needs root for uacme and mod_md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each program runs")
	sites := flag.Int("sites", 200, "sites of the run with nginx; 0 leaves it out")
	only := flag.String("only", "", "the one program to measure; default all")
	flag.Parse()
	if err := run(flag.Arg(0), *only, *rounds, *sites); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// peer is one program.
type peer struct {
	name    string
	program string
	version []string
	start   func(t *trial) (argv []string, err error)
	file    string // its certificate, below the directory of the trial; a pattern. "": it ends by itself
	webroot bool   // challenges are served from the directory webroot of the trial
	env     []string
}

// trial is one run of one program.
type trial struct {
	ca   *acmetest.CA
	dir  string
	name string // the name of the certificate
	root string // the file with the CA's root
	tls  int    // a free port
}

func (t *trial) at(name string) string { return filepath.Join(t.dir, name) }

func (t *trial) write(name, text string, mode os.FileMode) error {
	return os.WriteFile(t.at(name), []byte(text), mode)
}

func run(acmed, only string, rounds, sites int) error {
	ca, err := acmetest.New(acmetest.WithMiddleware(acmetest.At(acmetest.ChangeJSON(classic), acmetest.Authorization)))
	if err != nil {
		return err
	}
	defer func() { _ = ca.Close() }()
	acmed, err = filepath.Abs(acmed)
	if err != nil {
		return err
	}
	all := slices.DeleteFunc(peers(acmed), func(p peer) bool { return only != "" && p.name != only })
	times, memory := make([][]time.Duration, len(all)), make([]int64, len(all))
	failed := make([]error, len(all))
	for round := range rounds { // the programs take turns, so that a load on the machine is shared by all
		for i, p := range all {
			if _, failed[i] = exec.LookPath(p.program); failed[i] != nil {
				continue
			}
			took, used, err := try(ca, p, round)
			if failed[i] = err; err == nil {
				times[i], memory[i] = append(times[i], took), max(memory[i], used)
			}
		}
	}
	report(all, times, memory, failed)
	if sites > 0 {
		return serve(ca, acmed, sites)
	}
	return nil
}

// report prints one line for each program, with ratios to the first one.
func report(all []peer, times [][]time.Duration, memory []int64, failed []error) {
	var floor time.Duration
	fmt.Printf("%-12s %8s %8s %8s  %s\n", "program", "time", "ratio", "memory", "version")
	for i, p := range all {
		if len(times[i]) == 0 {
			text := strings.ToValidUTF8(fmt.Sprint(failed[i]), "")
			fmt.Printf("%-12s left out: %s\n", p.name, text[max(0, len(text)-600):])
			continue
		}
		slices.Sort(times[i])
		median := times[i][len(times[i])/2]
		if i == 0 {
			floor = median
		}
		version, _ := exec.Command(p.version[0], p.version[1:]...).CombinedOutput() //nolint:gosec // a fixed list
		first, _, _ := strings.Cut(strings.TrimSpace(string(version)), "\n")
		ratio := median.Seconds() / max(floor, time.Millisecond).Seconds()
		fmt.Printf("%-12s %7.2fs %7.1fx %4d MiB  %s\n", p.name, median.Seconds(), ratio, memory[i]>>10, first)
	}
}

// classic leaves the challenges of RFC 8555 and 8737. Programs from before the others do not read an authorization that has them.
func classic(authorization map[string]any) {
	offered, _ := authorization["challenges"].([]any)
	authorization["challenges"] = slices.DeleteFunc(offered, func(c any) bool {
		challenge, ok := c.(map[string]any)
		return ok && !slices.Contains([]any{"http-01", "dns-01", "tls-alpn-01"}, challenge["type"])
	})
}

// try runs a program once and returns how long it took, and the kibibytes of its largest process.
func try(ca *acmetest.CA, p peer, round int) (took time.Duration, memory int64, err error) {
	dir, err := os.MkdirTemp("", "peers-")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	t := &trial{ca: ca, dir: dir, name: fmt.Sprintf("%s-%d.example.com", strings.ReplaceAll(p.name, "_", "-"), round), root: filepath.Join(dir, "ca.pem")}
	if err := errors.Join(t.write("ca.pem", string(ca.RootPEM), 0o644), os.MkdirAll(t.at("webroot/.well-known/acme-challenge"), 0o755), os.Chmod(dir, 0o755)); err != nil {
		return 0, 0, err
	}
	if t.tls, err = port(); err != nil {
		return 0, 0, err
	}
	if p.webroot {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ca.HTTPPort))
		if err != nil {
			return 0, 0, err
		}
		server := &http.Server{Handler: http.FileServer(http.Dir(t.at("webroot"))), ReadHeaderTimeout: time.Second}
		go func() { _ = server.Serve(l) }()
		defer func() { _ = server.Close() }()
	}
	argv, err := p.start(t)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out := &strings.Builder{}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // a fixed list
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8", "XDG_DATA_HOME=" + t.at("data"), "SSL_CERT_FILE=" + t.root, "REQUESTS_CA_BUNDLE=" + t.root}, p.env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	if p.file == "" {
		err = cmd.Wait()
		took = time.Since(begin)
	} else {
		for err = errors.New("no certificate within a minute"); err != nil && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
			if found, _ := filepath.Glob(t.at(p.file)); len(found) > 0 {
				took, err = time.Since(begin), nil
			}
		}
		cancel()
		_ = cmd.Wait() // it was ended
	}
	if err != nil {
		log, _ := os.ReadFile(t.at("error.log")) // of mod_md
		return 0, 0, fmt.Errorf("%w\n%s%s", err, out, log)
	}
	return took, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss, nil
}

func port() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
