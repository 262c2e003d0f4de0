package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

// serve gives every site of an nginx its certificate and renews them all, and prints what that took until each was verified by a
// handshake, beside one test and one reload of nginx.
func serve(ca *acmetest.CA, acmed string, sites int) error {
	if _, err := exec.LookPath("nginx"); err != nil {
		fmt.Println("nginx is not installed")
		return nil
	}
	dir, err := os.MkdirTemp("", "peers-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	t := &trial{ca: ca, dir: dir, root: dir + "/ca.pem"}
	plain, err := port()
	if err == nil {
		t.tls, err = port()
	}
	if err != nil {
		return err
	}
	var servers, certificates strings.Builder
	run := func(verb string) []string {
		return append([]string{"/usr/sbin/nginx", "-p", dir, "-c", dir + "/nginx.conf", "-e", dir + "/error.log"}, strings.Fields(verb)...)
	}
	quoted := func(argv []string) string { return "[" + strings.Join(argv, ", ") + "]" }
	for i := range sites {
		name := fmt.Sprintf("site%d.example.com", i)
		fmt.Fprintf(&servers, "server {\n\tlisten 127.0.0.1:%d;\n\tserver_name %s;\n}\n", plain, name)
		fmt.Fprintf(&certificates, "  - { name: site%d, names: [%s], install: [ { nginx: { config: %s/nginx.conf, prefix: %s, pid_file: %[3]s/nginx.pid, listen: %[5]d, verify: [\"127.0.0.1:%[5]d/%[2]s\"], test: %[6]s, reload: %[7]s } } ] }\n",
			i, name, dir, dir, t.tls, quoted(run("-t -q")), quoted(run("-s reload")))
	}
	conf := fmt.Sprintf("user root;\npid %s/nginx.pid;\nevents { worker_connections 1024; }\nhttp {\n\taccess_log off;\n\tserver_names_hash_bucket_size 128;\n%s}\n", dir, &servers)
	if err := t.write("ca.pem", string(ca.RootPEM), 0o644); err != nil {
		return err
	}
	if err := t.write("nginx.conf", conf, 0o644); err != nil {
		return err
	}
	if err := acmedConfig(t, certificates.String()); err != nil {
		return err
	}
	if out, err := exec.Command(run("")[0], run("")[1:]...).CombinedOutput(); err != nil { //nolint:gosec // a fixed list
		return fmt.Errorf("nginx: %w\n%s", err, out)
	}
	defer func() { _ = exec.Command(run("")[0], run("-s stop")[1:]...).Run() }() //nolint:gosec // a fixed list
	fmt.Printf("\nnginx with %d sites:\n", sites)
	for _, step := range []struct {
		what string
		argv [][]string
	}{
		{"all verified from nothing", [][]string{{acmed, "-c", t.at("acmed.yaml"), "run", "--once"}}},
		{"all renewed and verified", [][]string{{acmed, "-c", t.at("acmed.yaml"), "renew", "--force", "--all"}}},
		{"one test and one reload alone", [][]string{run("-t -q"), run("-s reload")}},
	} {
		begin, processor, memory := time.Now(), time.Duration(0), int64(0)
		for _, argv := range step.argv {
			cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec // the programs that are measured
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", argv[0], err, out)
			}
			processor += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			memory = max(memory, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
		}
		fmt.Printf("  %-30s %5.1f s, %5.1f s of processor time; %d MiB\n", step.what, time.Since(begin).Seconds(), processor.Seconds(), memory>>10)
	}
	return nil
}
