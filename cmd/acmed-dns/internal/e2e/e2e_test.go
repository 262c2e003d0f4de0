package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/acmetest/canary"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dns01"
)

// program is the acmed-dns that TestMain built.
var program string

func TestMain(m *testing.M) {
	if os.Getenv("E2E_PARENT") != "" {
		parent()
	}
	dir, err := os.MkdirTemp("", "acmed-dns")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "acmed-dns")
	// The flags of the release, so that its build cache serves the test too.
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/acmed/acmed/cmd/acmed-dns")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// cloudflare is the part of Cloudflare's API that the provider uses: zones of two accounts, each with its own token.
type cloudflare struct {
	*httptest.Server
	mu      sync.Mutex
	tokens  map[string]string   // token to zone
	records map[string][]string // zone to "id name content"
	next    int
	wrong   []string // requests with a token that is not that of the zone
	delay   time.Duration
}

func newCloudflare(t *testing.T, tokens map[string]string) *cloudflare {
	c := &cloudflare{tokens: tokens, records: map[string][]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /zones", c.zones)
	mux.HandleFunc("POST /zones/{zone}/dns_records", c.create)
	mux.HandleFunc("DELETE /zones/{zone}/dns_records/{id}", c.remove)
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

// zone checks the token; anything else than its own zone is an error.
func (c *cloudflare) zone(w http.ResponseWriter, r *http.Request, id string) bool {
	time.Sleep(c.delay)
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokens[token] == id {
		return true
	}
	c.wrong = append(c.wrong, r.Method+" "+r.URL.String())
	w.WriteHeader(http.StatusForbidden)
	fmt.Fprintf(w, `{"success":false,"errors":[{"code":10000,"message":"Authentication error for %s"}]}`, token)
	return false
}

func (c *cloudflare) zones(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	if c.zone(w, r, name) {
		fmt.Fprintf(w, `{"success":true,"result":[{"id":%q,"name":%q}],"result_info":{"page":1,"per_page":20,"count":1,"total_count":1}}`, name, name)
	}
}

func (c *cloudflare) create(w http.ResponseWriter, r *http.Request) {
	var record struct{ Type, Name, Content string }
	zone := r.PathValue("zone")
	if json.NewDecoder(r.Body).Decode(&record) != nil || !c.zone(w, r, zone) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	id := fmt.Sprint("rec", c.next)
	c.records[zone] = append(c.records[zone], id+" "+record.Name+" "+record.Content)
	fmt.Fprintf(w, `{"success":true,"result":{"id":%q}}`, id)
}

func (c *cloudflare) remove(w http.ResponseWriter, r *http.Request) {
	zone := r.PathValue("zone")
	if !c.zone(w, r, zone) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records[zone] = slices.DeleteFunc(c.records[zone], func(s string) bool { return strings.HasPrefix(s, r.PathValue("id")+" ") })
	fmt.Fprintf(w, `{"success":true,"result":{"id":%q}}`, r.PathValue("id"))
}

func (c *cloudflare) in(zone string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.records[zone])
}

// resolver knows which names are zones.
func resolver(t *testing.T, zones ...string) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if name := q.Question[0].Name; q.Question[0].Qtype == dns.TypeSOA && slices.Contains(zones, strings.TrimSuffix(name, ".")) {
			m.Answer = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 1}, Ns: "ns.", Mbox: "h."}}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return conn.LocalAddr().String()
}

func solver(name, env, resolver, journal string) (*dns01.Solver, error) {
	return dns01.New(dns01.Config{
		Provider: "cloudflare", EnvFile: env, Resolvers: []string{resolver}, Propagation: dns01.NoPropagation, Timeout: 30 * time.Second,
	}, dns01.Options{Name: name, Journal: dns01.NewJournal(journal), Locks: new(dns01.Locks), Worker: program, Now: time.Now})
}

func challenge(name, token string) challenges.Challenge {
	id, _, err := certs.ParseIdentifier(name)
	if err != nil {
		panic(err)
	}
	return challenges.Challenge{Identifier: id, Type: challenges.DNS01, Token: token, KeyAuth: token + ".thumbprint"}
}

func credential(t *testing.T, api, token string) string {
	path := filepath.Join(t.TempDir(), "cloudflare.env")
	text := "CLOUDFLARE_DNS_API_TOKEN=" + token + "\nCLOUDFLARE_BASE_URL=" + api + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTwoCredentialsAtTheSameTime(t *testing.T) {
	t.Setenv("CLOUDFLARE_EMAIL", "inherited@example.com") // would take precedence over the tokens
	t.Setenv("CLOUDFLARE_API_KEY", "inherited")
	api := newCloudflare(t, map[string]string{"token-of-example-com": "example.com", "token-of-example-net": "example.net"})
	api.delay = 20 * time.Millisecond
	addr := resolver(t, "example.com", "example.net")
	var wg sync.WaitGroup
	for token, zone := range map[string]string{"token-of-example-com": "example.com", "token-of-example-net": "example.net"} {
		s, err := solver(zone, credential(t, api.URL, token), addr, filepath.Join(t.TempDir(), "dns"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{zone, "*." + zone, "www." + zone} {
			wg.Go(func() {
				c := challenge(name, strings.NewReplacer("*", "wildcard", ".", "-").Replace(name)+"-0123456789abcdef")
				if err := s.Present(t.Context(), c); err != nil {
					t.Error(err)
				}
				if len(api.in(zone)) == 0 {
					t.Errorf("no record in %s", zone)
				}
				if err := s.CleanUp(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if len(api.wrong) != 0 || api.next != 6 {
		t.Errorf("%d records were made; requests with the other token: %q", api.next, api.wrong)
	}
	if left := append(api.in("example.com"), api.in("example.net")...); len(left) != 0 {
		t.Errorf("records %q are left", left)
	}
}

func TestWrongTokenIsNotShown(t *testing.T) {
	api := newCloudflare(t, nil)
	const secret = "s3cret-token-of-nobody"
	if err := canary.Secret(secret); err != nil {
		t.Fatal(err)
	}
	s, err := solver("s", credential(t, api.URL, secret), resolver(t, "example.com"), filepath.Join(t.TempDir(), "dns"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // within the pause before the second attempt
	defer cancel()
	err = s.Present(ctx, challenge("example.com", "0123456789abcdef0123456789"))
	if hearErr := canary.Heard(fmt.Sprint(err)); hearErr != nil {
		t.Error(hearErr)
	}
	if err == nil || !strings.Contains(err.Error(), "Authentication error for <redacted>") || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}

// parent is a daemon that is killed while a record is set.
func parent() {
	program = os.Getenv("E2E_PROGRAM")
	s, err := solver("s", os.Getenv("E2E_PARENT"), os.Getenv("E2E_RESOLVER"), os.Getenv("E2E_JOURNAL"))
	if err != nil {
		panic(err)
	}
	if err := s.Present(context.Background(), challenge("example.com", "0123456789abcdef0123456789")); err != nil {
		panic(err)
	}
	fmt.Println("presented")
	select {}
}

// TestKilledParent shows that the worker removes the record whose identifier only it knows.
func TestKilledParent(t *testing.T) {
	api := newCloudflare(t, map[string]string{"the-token": "example.com"})
	journal := filepath.Join(t.TempDir(), "dns")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "E2E_PROGRAM="+program, "E2E_PARENT="+credential(t, api.URL, "the-token"),
		"E2E_RESOLVER="+resolver(t, "example.com"), "E2E_JOURNAL="+journal)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanln(out, new(string)); err != nil || len(api.in("example.com")) != 1 {
		t.Errorf("%v, records %q", err, api.in("example.com"))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for end := time.Now().Add(2 * time.Minute); len(api.in("example.com")) != 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("records %q are left", api.in("example.com"))
		}
	}
	if list, err := dns01.NewJournal(journal).Entries(); err != nil || len(list) != 1 {
		t.Errorf("journal %v, %v; the next start has to look at it", list, err)
	}
}

func TestProgram(t *testing.T) {
	for args, want := range map[string]string{
		"list": "\nroute53 ", "describe cloudflare": "  CLOUDFLARE_DNS_API_TOKEN (or CF_DNS_API_TOKEN)\n", "version": "(lego v4.35.2)", "help": "is run by acmed",
	} {
		out, err := exec.Command(program, strings.Fields(args)...).CombinedOutput()
		if err != nil || !strings.Contains("\n"+string(out), want) {
			t.Errorf("%s: %v, %s", args, err, out)
		}
	}
	out, err := exec.Command(program, "describe", "cloudfare").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `did you mean "cloudflare"?`) {
		t.Errorf("%v, %s", err, out)
	}
}

// TestTry: "acmed dns try" beside the real worker sets and removes a record, with credentials from a file or from the
// environment, says what is wrong with them, and says how to get a worker that is missing.
func TestTry(t *testing.T) {
	dir := t.TempDir()
	acmed := filepath.Join(dir, "acmed")
	build := exec.Command("go", "build", "-o", acmed, "./cmd/acmed")
	build.Dir = "../../../.." // another module
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const token = "token-of-example-com"
	api := newCloudflare(t, map[string]string{token: "example.com"})
	addr := resolver(t, "example.com")
	try := func(env []string, args ...string) (string, error) {
		cmd := exec.Command(acmed, append([]string{"dns", "try", "cloudflare", "-d", "www.example.com", "--resolver", addr}, args...)...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := try(nil); err == nil || !strings.Contains(out, "make acmed-dns install") {
		t.Errorf("without a worker: %v, %s", err, out)
	}
	if err := os.Link(program, filepath.Join(dir, "acmed-dns")); err != nil {
		t.Fatal(err)
	}
	if out, err := try(nil, "--env-file", credential(t, api.URL, token)); err != nil || !strings.Contains(out, "set the record _acme-challenge.www.example.com and removed it") {
		t.Errorf("from a file: %v, %s", err, out)
	}
	if out, err := try([]string{"CF_DNS_API_TOKEN=" + token, "CLOUDFLARE_BASE_URL=" + api.URL}); err != nil {
		t.Errorf("from the environment: %v, %s", err, out)
	}
	if out, err := try([]string{"CF_DNS_API_TOKEN=wrong-secret-token", "CLOUDFLARE_BASE_URL=" + api.URL}); err == nil || strings.Contains(out, "wrong-secret-token") {
		t.Errorf("with a wrong token: %v, %s", err, out)
	}
	if out, err := try(nil); err == nil || !strings.Contains(out, "CLOUDFLARE_DNS_API_TOKEN") {
		t.Errorf("without a terminal: %v, %s", err, out)
	}
	if api.next != 2 || len(api.in("example.com")) != 0 {
		t.Errorf("%d records were set, %v are left", api.next, api.in("example.com"))
	}
}
