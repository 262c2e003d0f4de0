package bench

import (
	"bufio"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
)

// The environment by which BenchmarkMemory tells its child processes what to be.
const (
	clientVar    = "ACMED_BENCH_CLIENT"
	directoryVar = "ACMED_BENCH_DIRECTORY"
	rootsVar     = "ACMED_BENCH_ROOTS"
	portVar      = "ACMED_BENCH_HTTP_PORT"
	countVar     = "ACMED_BENCH_NAMES"
)

// BenchmarkMemory is the peak resident memory of a process that obtains one certificate of 1, 10 and 100 names, for each
// client in a process of its own, one after the other against one CA. lego takes minutes for 100 names and is left out there.
func BenchmarkMemory(b *testing.B) {
	if os.Getenv(clientVar) != "" {
		b.Skip("this is a child")
	}
	for _, count := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("names=%d", count), func(b *testing.B) {
			ca := newCA(b)
			clients := []string{"acmed", "bare"}
			if count < 100 {
				clients = append(clients, "lego")
			}
			peak := map[string]float64{}
			for b.Loop() {
				for _, name := range clients {
					peak[name] = child(b, ca.Server, name, count)
				}
			}
			b.ReportMetric(0, "ns/op")
			for name, mib := range peak {
				b.ReportMetric(mib, name+"-peak-MiB")
			}
			if lego, ok := peak["lego"]; ok {
				b.ReportMetric(lego/peak["acmed"], "lego/acmed")
			}
		})
	}
}

// child runs BenchmarkClient as another process and returns its peak resident memory in MiB.
func child(b *testing.B, ca acmetest.Server, name string, count int) float64 {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^$", "-test.bench", "^BenchmarkClient$", "-test.benchtime", "1x")
	cmd.Env = append(os.Environ(), clientVar+"="+name, directoryVar+"="+ca.Directory, rootsVar+"="+string(ca.RootPEM),
		portVar+"="+strconv.Itoa(ca.HTTPPort), countVar+"="+strconv.Itoa(count))
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%s: %v\n%s", name, err, out)
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if text, ok := strings.CutPrefix(line, "peak KiB "); ok {
			kib, err := strconv.ParseFloat(text, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatalf("%s said nothing:\n%s", name, out)
	return 0
}

// BenchmarkClient is the child of BenchmarkMemory: it obtains one certificate and prints its peak resident memory.
func BenchmarkClient(b *testing.B) {
	name := os.Getenv(clientVar)
	if name == "" {
		b.Skip("only BenchmarkMemory runs it")
	}
	port, err := strconv.Atoi(os.Getenv(portVar))
	if err != nil {
		b.Fatal(err)
	}
	count, err := strconv.Atoi(os.Getenv(countVar))
	if err != nil {
		b.Fatal(err)
	}
	ca := acmetest.Server{Directory: os.Getenv(directoryVar), RootPEM: []byte(os.Getenv(rootsVar)), Roots: x509.NewCertPool(), HTTPPort: port}
	ca.Roots.AppendCertsFromPEM(ca.RootPEM)
	f := &fresh{}
	f.n.Store(int64(os.Getpid()) * 1000) // names of its own
	for b.Loop() {
		var c client
		var stop func()
		switch name {
		case "acmed":
			c, stop = newAcmed(b, ca, f)
		case "bare":
			c, stop = newBare(b, ca)
		default:
			c, stop = newLego(b, ca)
		}
		if err := c(b.Context(), f.names(count)); err != nil {
			b.Fatal(err)
		}
		stop()
	}
	fmt.Printf("\npeak KiB %s\n", peakKiB(b))
}

// peakKiB is the highest resident memory of this process so far.
func peakKiB(b *testing.B) string {
	b.Helper()
	status, err := os.Open("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = status.Close() }()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			return strings.TrimSuffix(strings.TrimSpace(text), " kB")
		}
	}
	b.Fatal("no VmHWM")
	return ""
}
