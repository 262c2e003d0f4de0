package dns01

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest/await"
)

// fakeWorker is this test binary as a worker that misbehaves. Its answers to present tell its process ID.
func fakeWorker(mode string) {
	say := func(r Response) { _ = json.NewEncoder(os.Stdout).Encode(r) }
	if mode == "deaf" {
		time.Sleep(time.Hour)
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var req Request
		if err := json.Unmarshal(in.Bytes(), &req); err != nil {
			panic(err)
		}
		switch req.Op {
		case OpHello:
			fakeHello(mode, req, say)
		case OpPresent:
			fakePresent(mode, req, say)
		default:
			note(fmt.Sprintf("cleanup %d", os.Getpid()))
			say(Response{ID: req.ID})
		}
	}
	note("end")
}

func fakeHello(mode string, req Request, say func(Response)) {
	r := Response{ID: req.ID, Protocol: ProtocolVersion, Version: "fake"}
	switch mode {
	case "old":
		r.Protocol = ProtocolVersion + 1
	case "no credentials":
		r.Error = "some credentials information are missing: FAKE_TOKEN"
	case "environment":
		r.Error = strings.Join(os.Environ(), " ")
	}
	say(r)
}

func fakePresent(mode string, req Request, say func(Response)) {
	secret := os.Getenv("FAKE_TOKEN")
	switch mode {
	case "hang":
		child := exec.Command("/bin/sleep", "3600") // in the same process group
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			panic(err)
		}
		note(fmt.Sprintf("child %d", child.Process.Pid))
		time.Sleep(time.Hour)
	case "flood line":
		for {
			fmt.Print(strings.Repeat("x", 1<<20))
		}
	case "flood lines":
		for {
			say(Response{ID: req.ID})
		}
	case "flood stderr":
		for {
			fmt.Fprintln(os.Stderr, strings.Repeat("y", 1000))
		}
	case "exit":
		fmt.Fprintln(os.Stderr, "out of memory with "+secret)
		os.Exit(3)
	case "crash":
		panic("nil pointer near " + secret)
	case "no JSON":
		fmt.Println("Welcome! " + secret)
	case "other answer":
		say(Response{ID: req.ID + 1})
	case "secret":
		say(Response{ID: req.ID, Error: "401 for " + secret + " in https://x/?t=" + url.QueryEscape(secret) +
			" Basic " + base64.StdEncoding.EncodeToString([]byte(secret)) + " from " + os.Getenv("FAKE_SHORT") + "\n\x1b[31m"})
	case "denied":
		note("denied")
		say(Response{ID: req.ID, Error: "cloudflare: [status code 403] 10000: Authentication error"})
	case "die later":
		say(Response{ID: req.ID})
		os.Exit(0)
	default:
		note(fmt.Sprintf("present %d", os.Getpid()))
		say(Response{ID: req.ID})
	}
}

// note appends a line to the file that the environment names.
func note(line string) {
	f, err := os.OpenFile(os.Getenv("FAKE_LOG"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	fmt.Fprintln(f, line)
	f.Close()
}

const fakeSecret = "T0p/S3cret+tok&n\"en"

func fake(t *testing.T, mode string, timeout time.Duration) (w *worker, log func() []string) {
	t.Helper()
	notes := filepath.Join(t.TempDir(), "log")
	env := secretFile(t, "# a credential\nFAKE_WORKER='"+mode+"'\nexport FAKE_TOKEN="+fakeSecret+"\nFAKE_SHORT=abc\nFAKE_LOG="+notes+
		"\nGORACE=atexit_sleep_ms=0\n") // the race detector sleeps at exit
	w = newWorker(os.Args[0], "fake", env, []string{"127.0.0.1:53"}, timeout)
	return w, func() []string {
		text, _ := os.ReadFile(notes)
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
}

// settle waits until no request is under way.
func (w *worker) settle() {
	<-w.turn
	w.turn <- struct{}{}
}

func TestWorkersThatMisbehave(t *testing.T) {
	for _, tc := range []struct {
		mode  string
		want  string
		final bool
	}{
		{"deaf", "did not answer within", true},
		{"hang", "did not answer within", true},
		{"flood line", "said more than it was asked for", true},
		{"flood lines", "", false}, // the first line is the answer; it is killed for the next ones
		{"flood stderr", "flooded its standard error", true},
		{"exit", "it ended without an answer (exit status 3); it printed: out of memory with <redacted>", false},
		{"crash", "panic: nil pointer near <redacted>", false},
		{"no JSON", `broke the protocol and was killed: "Welcome! <redacted>"`, false},
		{"other answer", "broke the protocol", false},
		{"secret", "401 for <redacted> in https://x/?t=<redacted> Basic <redacted> from abc", false},
		{"old", "speaks protocol 2, want 1", true},
		{"no credentials", "missing: FAKE_TOKEN", false},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			t.Parallel()
			timeout := 20 * time.Second
			if tc.mode == "deaf" || tc.mode == "hang" {
				timeout = 2 * time.Second
			}
			w, log := fake(t, tc.mode, timeout)
			r := recordOf(challenge(t, "example.com", "x"))
			start := time.Now()
			err := w.Present(t.Context(), r)
			if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if permanent, _ := permanence(err); permanent != tc.final {
				t.Errorf("permanent: %v, want %v", permanent, tc.final)
			}
			if err != nil && (len(err.Error()) > 5000 || strings.ContainsAny(err.Error(), "\n\x1b") || strings.Contains(err.Error(), "T0p")) {
				t.Errorf("the error is long, has control characters or shows the secret: %q", err)
			}
			if time.Since(start) > timeout+time.Minute {
				t.Errorf("it took %s", time.Since(start))
			}
			_ = w.CleanUp(t.Context(), r)
			w.settle()
			if w.child != nil {
				t.Error("there still is a child")
			}
			if tc.mode == "hang" {
				checkGone(t, log()[0])
			}
		})
	}
}

// checkGone waits for the end of the process that a line "child PID" names.
func checkGone(t *testing.T, line string) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimPrefix(line, "child "))
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") { // gone, or waiting for init
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the worker's own child %d is alive", pid)
}

func TestWorkerLivesFromFirstPresentToLastCleanUp(t *testing.T) {
	w, log := fake(t, "good", 20*time.Second)
	a, b := recordOf(challenge(t, "example.com", "a")), recordOf(challenge(t, "*.example.com", "b"))
	for _, step := range []func(context.Context, Record) error{w.Present, w.CleanUp} {
		var wg sync.WaitGroup
		for _, r := range []Record{a, b} {
			wg.Go(func() {
				if err := step(t.Context(), r); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	w.settle()
	lines := log()
	if len(lines) != 5 || lines[4] != "end" {
		t.Fatalf("log %q", lines)
	}
	pid := strings.TrimPrefix(lines[0], "present ")
	if lines[1] != "present "+pid || lines[2] != "cleanup "+pid || lines[3] != "cleanup "+pid {
		t.Errorf("more than one process: %q", lines)
	}
	if err := w.Present(t.Context(), a); err != nil {
		t.Error(err)
	}
	if err := w.CleanUp(t.Context(), a); err != nil {
		t.Error(err)
	}
	w.settle()
	if lines := log(); lines[5] == "present "+pid {
		t.Error("the process of the last order was still there")
	}
}

func TestWorkerThatDiesBetweenRequestsIsReplaced(t *testing.T) {
	w, log := fake(t, "die later", 20*time.Second)
	a := recordOf(challenge(t, "example.com", "a"))
	if err := w.Present(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	w.settle()
	<-w.child.proc.done
	if err := w.CleanUp(t.Context(), a); err != nil {
		t.Error(err)
	}
	w.settle()
	if lines := log(); len(lines) != 2 || !strings.HasPrefix(lines[0], "cleanup ") {
		t.Errorf("log %q", lines)
	}
}

func TestWorkerEnvironmentIsTheCredential(t *testing.T) {
	t.Setenv("LD_PRELOAD_TEST", "inherited")
	t.Setenv("CF_API_EMAIL", "inherited")
	w, _ := fake(t, "environment", 20*time.Second)
	err := w.Present(t.Context(), recordOf(challenge(t, "example.com", "a")))
	want := "PATH=/usr/local/bin:/usr/bin:/bin HOME=/nonexistent FAKE_LOG=<redacted> FAKE_SHORT=abc FAKE_TOKEN=<redacted> FAKE_WORKER=<redacted> GORACE=<redacted>"
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "inherited") {
		t.Errorf("%v\nwant %s", err, want)
	}
	w.settle()
}

// stop halts a process and waits until each of its threads has halted: the signal is delivered some time after kill.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await.True(t, fmt.Sprintf("process %d stops after SIGSTOP", pid), func() bool { return stopped(t, pid) })
}

// stopped reads the states of a process's threads, after the name in parentheses (proc_pid_stat(5)).
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil || !strings.Contains(string(stat), ") T ") {
			return false
		}
	}
	return true
}

func TestCancelledRequestDoesNotTakeTheWorkerDown(t *testing.T) {
	w, _ := fake(t, "good", 20*time.Second)
	a := recordOf(challenge(t, "example.com", "a"))
	if err := w.Present(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	w.settle()
	pid := w.child.proc.cmd.Process.Pid
	stop(t, pid)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	b := recordOf(challenge(t, "*.example.com", "b"))
	if err := w.Present(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}
	if err := w.Present(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v while another request is under way, want the deadline", err)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, r := range []Record{b, a} {
		if err := w.CleanUp(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	w.settle()
}

func TestWorkerThatCannotStart(t *testing.T) {
	r := recordOf(challenge(t, "example.com", "a"))
	env := secretFile(t, "A=b\n")
	open := filepath.Join(t.TempDir(), "open.env")
	if err := os.WriteFile(open, []byte("A=b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for want, w := range map[string]*worker{
		"is acmed-dns installed?":              newWorker("/nonexistent/acmed-dns", "x", env, nil, time.Second),
		"can be read by others (mode 0644)":    newWorker(os.Args[0], "x", open, nil, time.Second),
		"no such file":                         newWorker(os.Args[0], "x", env+".not", nil, time.Second),
		"environment file: /tmp is not a regu": newWorker(os.Args[0], "x", "/tmp", nil, time.Second),
	} {
		err := w.Present(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, nothing := permanence(err); !nothing {
			t.Errorf("%v: not known as harmless", err)
		}
	}
}

func TestEnvFile(t *testing.T) {
	got, err := parseEnv("\n# c\n;c\nA=1\nexport B='two words'\nC=\"x=y\"\n D = z \nE=\nF='\n")
	want := map[string]string{"A": "1", "B": "two words", "C": "x=y", "D": "z", "E": "", "F": "'"}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v", got, err)
	}
	bom := "\xef\xbb\xbf"
	got, err = readEnvFile(secretFile(t, bom+"A=\"v # w\" # c\r\nB='x\" # y'\r\n# c\r\nC=\"x\"y\"\r\n"))
	if want := map[string]string{"A": "v # w", "B": `x" # y`, "C": `x"y`}; err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := readTSIGKey(secretFile(t, bom+testKey)); err != nil {
		t.Error(err)
	}
	if _, err := readAccounts(secretFile(t, bom+`{"a":{"fulldomain":"f","subdomain":"s","username":"u","password":"p"}}`)); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"A=1\nsecret": "line 2 is not", "A=1\nA=2": "A is there twice", "1A=x": "line 1: a variable's name", "A B=x": "line 1", "A=\x00": "zero byte",
	} {
		if _, err := parseEnv(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzEnvFile(f *testing.F) {
	f.Add("A=1\nexport B='x'\n")
	f.Fuzz(func(t *testing.T, text string) {
		env, err := parseEnv(text)
		if err != nil {
			return
		}
		for name, value := range env {
			if !envName(name) || strings.ContainsAny(value, "\x00\n") {
				t.Errorf("%q=%q", name, value)
			}
		}
	})
}

func TestRedactor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := newRedactor(map[string]string{"A": "abcd", "B": "abcdefgh", "C": "yes", "D": "", "E_FILE": file})
	got := r.clean("abcd abcdefgh abcdef yes from-a-file " + file + "\r\nend\x00")
	if want := "<redacted> <redacted> <redacted>ef yes <redacted> <redacted> end"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
