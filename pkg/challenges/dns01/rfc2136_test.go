package dns01

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

func identify(t testing.TB, name string) certs.Identifier {
	t.Helper()
	id, _, err := certs.ParseIdentifier(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func challenge(t testing.TB, name, token string) challenges.Challenge {
	token = (token + strings.Repeat("-", 32))[:32]
	return challenges.Challenge{
		Identifier: identify(t, name), Type: challenges.DNS01, Token: token, KeyAuth: challenges.KeyAuthorization(token, "thumbprint"),
	}
}

func value(c challenges.Challenge) string { return recordOf(c).Value }

// solverFor makes a solver of the section, fast enough for tests, with a journal of its own.
func solverFor(t testing.TB, c Config, o Options) *Solver {
	t.Helper()
	if o.Journal == nil {
		o.Journal = NewJournal(filepath.Join(t.TempDir(), "dns"))
	}
	o.Name, o.Locks = "test", new(Locks)
	if o.Now == nil {
		o.Now = time.Now
	}
	if c.PropagationTimeout == 0 {
		c.PropagationTimeout = 10 * time.Second
	}
	s, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	s.retries = []time.Duration{time.Millisecond, time.Millisecond}
	return s
}

func (n *named) config(t testing.TB) Config {
	return Config{
		RFC2136:   &RFC2136Config{Nameserver: n.addr, TSIGKeyFile: secretFile(t, testKey)},
		Resolvers: []string{n.addr}, AuthoritativePort: number(t, n.port),
	}
}

// number reads the port of an address.
func number(t testing.TB, port string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

func entries(t testing.TB, j *Journal) []Entry {
	t.Helper()
	list, err := j.Entries()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

const oneServer = "@ NS ns1\nns1 A 127.0.0.1\n"

func TestBIND(t *testing.T) {
	n := startNamed(t, freePort(t),
		zone{"example.com", updatable, oneServer + `
_acme-challenge.www CNAME www.challenges.example.net.
_acme-challenge.moving CNAME one.challenges.example.net.
_acme-challenge.loop CNAME loop1
loop1 CNAME loop2
loop2 CNAME loop1
_acme-challenge.eight CNAME h2
_acme-challenge.nine CNAME h1
h1 CNAME h2
h2 CNAME h3
h3 CNAME h4
h4 CNAME h5
h5 CNAME h6
h6 CNAME h7
h7 CNAME h8
h8 CNAME h9
_acme-challenge.odd CNAME o\;dd.example.net.
`},
		zone{"challenges.example.net", updatable, "@ NS ns1.example.com.\n"})
	t.Run("wildcard and apex", n.wildcardAndApex)
	t.Run("two clients", n.twoClients)
	t.Run("delegation", n.delegation)
	t.Run("delegation that changes", n.movingDelegation)
	t.Run("delegations that are refused", n.refusedDelegations)
	t.Run("TSIG", n.tsig)
	t.Run("killed", n.killed)
}

func (n *named) wildcardAndApex(t *testing.T) {
	const name = "_acme-challenge.example.com."
	n.update("example.com", name+` 60 TXT "somebody else's"`)
	s := solverFor(t, n.config(t), Options{})
	apex, wildcard := challenge(t, "example.com", "apex"), challenge(t, "*.example.com", "wildcard")
	var wg sync.WaitGroup
	for _, c := range []challenges.Challenge{apex, wildcard} {
		wg.Go(func() {
			if err := s.Present(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	check := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		if diff := cmp.Diff(want, n.txt(name)); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	}
	check("somebody else's", value(apex), value(wildcard))
	if got := entries(t, s.journal); len(got) != 2 {
		t.Errorf("journal: %v", got)
	}
	for _, step := range []struct {
		clean challenges.Challenge
		left  []string
	}{{wildcard, []string{"somebody else's", value(apex)}}, {wildcard, []string{"somebody else's", value(apex)}}, {apex, []string{"somebody else's"}}} {
		if err := s.CleanUp(t.Context(), step.clean); err != nil {
			t.Error(err)
		}
		check(step.left...)
	}
	if got := entries(t, s.journal); len(got) != 0 {
		t.Errorf("journal: %v", got)
	}
}

func (n *named) twoClients(t *testing.T) {
	const name = "_acme-challenge.shared.example.com."
	one, two := solverFor(t, n.config(t), Options{}), solverFor(t, n.config(t), Options{})
	a, b := challenge(t, "shared.example.com", "a"), challenge(t, "shared.example.com", "b")
	for s, c := range map[*Solver]challenges.Challenge{one: a, two: b} {
		if err := s.Present(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.txt(name); len(got) != 2 {
		t.Errorf("records %q", got)
	}
	if err := one.CleanUp(t.Context(), a); err != nil {
		t.Error(err)
	}
	if got := n.txt(name); !slices.Equal(got, []string{value(b)}) {
		t.Errorf("records %q, want that of the other client", got)
	}
	if err := two.CleanUp(t.Context(), b); err != nil {
		t.Error(err)
	}
}

func (n *named) delegation(t *testing.T) {
	s := solverFor(t, n.config(t), Options{})
	c := challenge(t, "www.example.com", "delegated")
	if err := s.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := n.txt("www.challenges.example.net"); !slices.Equal(got, []string{value(c)}) {
		t.Errorf("records %q", got)
	}
	if err := s.CleanUp(t.Context(), c); err != nil {
		t.Error(err)
	}
	if got := n.txt("www.challenges.example.net"); len(got) != 0 {
		t.Errorf("records %q after the clean-up", got)
	}
}

func (n *named) movingDelegation(t *testing.T) {
	s := solverFor(t, n.config(t), Options{})
	c := challenge(t, "moving.example.com", "moving")
	if err := s.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	const alias = "_acme-challenge.moving.example.com. 60 CNAME "
	n.update("example.com", "-"+alias+"one.challenges.example.net.", alias+"two.challenges.example.net.")
	if err := s.CleanUp(t.Context(), c); err != nil {
		t.Error(err)
	}
	if got := n.txt("one.challenges.example.net"); len(got) != 0 {
		t.Errorf("records %q are left at the name of Present", got)
	}
}

func (n *named) refusedDelegations(t *testing.T) {
	for name, want := range map[string]string{
		"loop.example.com": "is a loop: _acme-challenge.loop.example.com. -> loop1.example.com. -> loop2.example.com. -> loop1.example.com.",
		"nine.example.com": "more than 8 hops",
		"odd.example.com":  "is no host name",
	} {
		s := solverFor(t, n.config(t), Options{})
		if err := s.Present(t.Context(), challenge(t, name, "x")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	s := solverFor(t, n.config(t), Options{})
	if err := s.Present(t.Context(), challenge(t, "eight.example.com", "x")); err != nil {
		t.Errorf("eight hops: %v", err)
	}
	if err := s.CleanUp(t.Context(), challenge(t, "eight.example.com", "x")); err != nil {
		t.Error(err)
	}
}

func (n *named) tsig(t *testing.T) {
	for _, tc := range []struct {
		name, key, zone, want string
		skew                  time.Duration
	}{
		{name: "other secret", key: strings.Replace(testKey, "c3Vw", "d3Vw", 1), want: `another secret for the key "acmed-key."`},
		{name: "other name", key: strings.Replace(testKey, "acmed-key", "nobody", 1), want: `does not know the key "nobody."`},
		{name: "other algorithm", key: strings.Replace(testKey, "sha256", "sha512", 1), want: "does not know the key"},
		{name: "clock", key: testKey, skew: time.Hour, want: "the clock of the server is 1h0m"},
		{name: "foreign zone", key: testKey, zone: "example.org.", want: "not authoritative for the zone in the view"},
		{name: "name outside of the zone", key: testKey, zone: "challenges.example.net.", want: "not within the zone"},
		{name: "no key", want: "REFUSED"},
		{name: "not a key", key: "secret", want: "want [algorithm:]name:secret"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := n.config(t)
			c.RFC2136.Zone, c.RFC2136.TSIGKeyFile = tc.zone, secretFile(t, tc.key)
			if tc.key == "" {
				c.RFC2136.TSIGKeyFile = ""
			}
			s := solverFor(t, c, Options{Now: func() time.Time { return time.Now().Add(tc.skew) }})
			err := s.Present(t.Context(), challenge(t, "tsig.example.com", "x"))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "c3Vw") {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

// killedHelper presents in a process that is then killed.
func killedHelper() {
	c := Config{
		RFC2136: &RFC2136Config{Nameserver: os.Getenv("TEST_NAMESERVER"), TSIGKeyFile: os.Getenv("TEST_KEY")}, Propagation: NoPropagation,
		Resolvers: []string{os.Getenv("TEST_NAMESERVER")},
	}
	s, err := New(c, Options{Name: "test", Journal: NewJournal(os.Getenv("TEST_JOURNAL")), Locks: new(Locks), Now: time.Now})
	if err == nil {
		id, _, _ := certs.ParseIdentifier("killed.example.com")
		err = s.Present(context.Background(), challenges.Challenge{Identifier: id, Type: challenges.DNS01, Token: "t", KeyAuth: "t.k"})
	}
	if err == nil {
		err = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	panic(err)
}

func (n *named) killed(t *testing.T) {
	config := n.config(t)
	journal := filepath.Join(t.TempDir(), "dns")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TEST_HELPER=killed", "TEST_NAMESERVER="+n.addr, "TEST_KEY="+config.RFC2136.TSIGKeyFile, "TEST_JOURNAL="+journal)
	out, err := cmd.CombinedOutput()
	if err == nil || err.Error() != "signal: killed" {
		t.Fatalf("%v: %s", err, out)
	}
	if got := n.txt("_acme-challenge.killed.example.com"); len(got) != 1 {
		t.Fatalf("records %q after the kill, want one", got)
	}
	s := solverFor(t, config, Options{Journal: NewJournal(journal)})
	info, err := os.Stat(journal)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("journal: %v, %v", info, err)
	}
	if got := entries(t, s.journal); len(got) != 1 || got[0].Solver != "test" || got[0].Domain != "killed.example.com" {
		t.Errorf("journal: %v", got)
	}
	if err := s.Recover(t.Context()); err != nil {
		t.Error(err)
	}
	if got := n.txt("_acme-challenge.killed.example.com"); len(got) != 0 {
		t.Errorf("records %q after the recovery", got)
	}
	if got := entries(t, s.journal); len(got) != 0 {
		t.Errorf("journal: %v", got)
	}
}

const twoServers = "@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.2\n"

func TestStaleSecondary(t *testing.T) {
	port := freePort(t)
	n := startNamed(t, port, zone{"example.com", updatable, twoServers})
	startNamed(t, freePort(t), zone{"example.com", "type primary;", twoServers}).alsoAt("127.0.0.2", port) // a copy that never changes
	c := n.config(t)
	c.PropagationTimeout = time.Second
	s := solverFor(t, c, Options{})
	ch := challenge(t, "example.com", "stale")
	err := s.Present(t.Context(), ch)
	if err == nil || !strings.Contains(err.Error(), "ns2.example.com (127.0.0.2:"+port+") does not have it") ||
		!strings.Contains(err.Error(), "the CA was not asked") || strings.Contains(err.Error(), "ns1.example.com (") {
		t.Errorf("%v, want an error about ns2 alone", err)
	}
	if got := n.txt("_acme-challenge.example.com"); len(got) != 0 {
		t.Errorf("records %q are left", got)
	}
	if got := entries(t, s.journal); len(got) != 0 {
		t.Errorf("journal: %v", got)
	}
	if err := s.CleanUp(t.Context(), ch); err != nil {
		t.Error(err)
	}
}

func TestSecondaryThatFollows(t *testing.T) {
	port, other := freePort(t), freePort(t)
	n := startNamed(t, port, zone{"example.com", updatable + " allow-transfer { any; }; also-notify { 127.0.0.1 port " + other + "; };", twoServers})
	second := startNamed(t, other, zone{"example.com", "type secondary; primaries { 127.0.0.1 port " + port + "; };", ""})
	second.alsoAt("127.0.0.2", port)
	s := solverFor(t, n.config(t), Options{})
	c := challenge(t, "example.com", "follows")
	if err := s.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := second.txt("_acme-challenge.example.com"); !slices.Equal(got, []string{value(c)}) {
		t.Errorf("Present returned while the secondary has %q", got)
	}
	if err := s.CleanUp(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func TestTSIGKeyFiles(t *testing.T) {
	const secret = "c3VwZXI="
	for _, tc := range []struct{ name, text, algorithm, want string }{
		{"tsig-keygen", testKey, dns.HmacSHA256, ""},
		{"comments", "# a key\n// of ours\nkey acmed-key. { secret \"c3Vw//I=\"; # c\n algorithm HMAC-SHA512; };", dns.HmacSHA512, ""},
		{"slashes at the start", "key k {\n\tsecret //3VwZXI=;\n};", "", "not base64"},
		{"slashes without quotes", "key acmed-key { algorithm hmac-sha256; secret c3Vw//I=; };", dns.HmacSHA256, ""},
		{"slashes in quotes, a line each", "key acmed-key {\nalgorithm hmac-sha256;\nsecret \"//Vw//I=\";\n};", dns.HmacSHA256, ""},
		{"slashes in the short form", "hmac-sha256:acmed-key:c3Vw//I=", dns.HmacSHA256, ""},
		{"comment behind", "key \"acmed-key\" { // c3Vw\n algorithm hmac-sha256; /* secret \"x\"; */ secret \"c3VwZXI=\"; }; # end", dns.HmacSHA256, ""},
		{"comment before the short form", "# made by tsig-keygen\r\nacmed-key:" + secret + "\r\n", dns.HmacSHA256, ""},
		{"quoted short form", "\"hmac-sha512:acmed-key:" + secret + "\"", dns.HmacSHA512, ""},
		{"no padding", "acmed-key:c3VwZXI", dns.HmacSHA256, ""},
		{"Windows", strings.ReplaceAll(testKey, "\n", "\r\n"), dns.HmacSHA256, ""},
		{"unclosed comment", "/* " + testKey, "", "want the output of tsig-keygen"},
		{"short", "hmac-sha384:acmed-key:" + secret + "\n", dns.HmacSHA384, ""},
		{"shorter", "acmed-key:" + secret, dns.HmacSHA256, ""},
		{"empty", "", "", "want the output of tsig-keygen"},
		{"md5", "hmac-md5:acmed-key:" + secret, "", "algorithm is not one of"},
		{"not base64", "acmed-key:s3cret!", "", "not base64"},
		{"two keys", testKey + testKey, "", "more than one key"},
		{"no secret", `key "acmed-key" { algorithm hmac-sha256; };`, "", "not base64"},
		{"odd name", "k\x00ey:" + secret, "", "not a domain name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k, err := parseTSIGKey(tc.text)
			switch {
			case tc.want == "" && (err != nil || k.algorithm != tc.algorithm || k.name != "acmed-key."):
				t.Errorf("%v, %v", k, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v, want %q", err, tc.want)
			case err != nil && strings.Contains(err.Error(), "s3cret"):
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func FuzzTSIGKey(f *testing.F) {
	f.Add(testKey)
	f.Add("hmac-sha256:k:c3VwZXI=")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := parseTSIGKey(text); err == nil && (!dnsquery.PlainName(k.name) || len(k.secret) == 0) {
			t.Errorf("accepted %q as %v", text, k)
		}
	})
}
