package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
	"github.com/acmed/acmed/pkg/installers/nginx"
)

// BenchmarkRounds installs the certificates of many sites of one nginx at once, then renews them all: wall and processor
// time, and how often nginx was tested and reloaded, beside the floor of one test and one reload at that size.
func BenchmarkRounds(b *testing.B) {
	for _, sites := range []int{50, 200, 1000} {
		b.Run(fmt.Sprint(sites), func(b *testing.B) {
			for range b.N {
				r := newRounds(b, sites)
				r.measure("first", r.install)
				r.publish()
				r.measure("renewal", r.install)
				r.measure("floor", func() {
					r.run("test.sh")
					r.run("reload.sh")
				})
			}
		})
	}
}

type rounds struct {
	*testing.B
	dir        string
	installers []*nginx.Installer
	publishers []func(*certs.Bundle)
	bundles    []*certs.Bundle
}

func newRounds(b *testing.B, sites int) *rounds {
	b.Helper()
	r := &rounds{B: b, dir: b.TempDir()}
	plain, secure := acmetest.FreePort(b), acmetest.FreePort(b)
	r.file("nginx.conf", 0o644, `user root;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events { worker_connections 4096; }
http { access_log off; server_names_hash_max_size 8192; include sites/*.conf; }
`)
	r.file("test.sh", 0o755, "#!/bin/sh\necho x >> {dir}/tests\nexec /usr/sbin/nginx -t -q -p {dir} -c {dir}/nginx.conf -e {dir}/error.log\n")
	r.file("reload.sh", 0o755, "#!/bin/sh\necho x >> {dir}/reloads\nexec /usr/sbin/nginx -s reload -p {dir} -c {dir}/nginx.conf -e {dir}/error.log\n")
	cfg := nginx.Config{
		Config: r.dir + "/nginx.conf", Prefix: r.dir, PIDFile: r.dir + "/nginx.pid", Listen: secure,
		Test: []string{r.dir + "/test.sh"}, Reload: []string{r.dir + "/reload.sh"},
	}
	server := nginx.NewServer(cfg)
	for i := range sites {
		name := fmt.Sprintf("s%d.example", i)
		r.file("sites/"+name+".conf", 0o644, fmt.Sprintf("server { listen 127.0.0.1:%d; server_name %s; return 200; }\n", plain, name))
		target, publish, _ := installertest.Live(b, name)
		target.Certificate, target.Server = fmt.Sprintf("s%d", i), server
		installer, err := nginx.New(cfg, target)
		if err != nil {
			b.Fatal(err)
		}
		r.installers, r.publishers = append(r.installers, installer), append(r.publishers, publish)
	}
	r.publish()
	if out, err := exec.Command("/usr/sbin/nginx", "-p", r.dir, "-c", r.dir+"/nginx.conf", "-e", r.dir+"/error.log").CombinedOutput(); err != nil {
		b.Fatalf("nginx: %v\n%s", err, out)
	}
	b.Cleanup(func() { r.end() })
	return r
}

func (r *rounds) end() {
	var pid int
	if text, err := os.ReadFile(r.dir + "/nginx.pid"); err == nil {
		if _, err := fmt.Sscan(string(text), &pid); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
}

func (r *rounds) file(name string, mode os.FileMode, text string) {
	r.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "{dir}", r.dir)), mode); err != nil {
		r.Fatal(err)
	}
}

func (r *rounds) run(script string) {
	if out, err := exec.Command(filepath.Join(r.dir, script)).CombinedOutput(); err != nil {
		r.Fatalf("%s: %v\n%s", script, err, out)
	}
}

func (r *rounds) publish() {
	r.Helper()
	r.bundles = nil
	for i, publish := range r.publishers {
		bundle := installertest.Bundle(r, fmt.Sprintf("s%d.example", i))
		publish(bundle)
		r.bundles = append(r.bundles, bundle)
	}
}

func (r *rounds) install() {
	var wg sync.WaitGroup
	for i, one := range r.installers {
		wg.Go(func() {
			if err := one.Install(context.Background(), r.bundles[i]); err != nil {
				r.Error(err)
			}
		})
	}
	wg.Wait()
}

// measure reports what a step takes.
func (r *rounds) measure(what string, step func()) {
	tests, reloads, cpu, begun := r.lines("tests"), r.lines("reloads"), processor(), time.Now()
	step()
	r.ReportMetric(time.Since(begun).Seconds(), what+"-s")
	r.ReportMetric((processor() - cpu).Seconds(), what+"-cpu-s")
	r.ReportMetric(float64(r.lines("tests")-tests), what+"-tests")
	r.ReportMetric(float64(r.lines("reloads")-reloads), what+"-reloads")
}

func (r *rounds) lines(name string) int {
	text, _ := os.ReadFile(filepath.Join(r.dir, name))
	return strings.Count(string(text), "\n")
}

// processor is the processor time of this process and the ended ones that it began.
func processor() time.Duration {
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if syscall.Getrusage(who, &usage) == nil {
			total += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		}
	}
	return total
}
