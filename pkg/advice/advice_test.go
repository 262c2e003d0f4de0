package advice_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/pkg/advice"
)

// TestCatalogue: every constant has one entry, and every line is one.
func TestCatalogue(t *testing.T) {
	tree, err := parser.ParseFile(token.NewFileSet(), "advice.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[advice.Code]bool{}
	ast.Inspect(tree, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "Code" {
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared[advice.Code(text)] = true
		}
		return true
	})
	kebab := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for _, e := range advice.All() {
		if !declared[e.Code] {
			t.Errorf("%s is no constant, or has two entries", e.Code)
		}
		delete(declared, e.Code)
		if !kebab.MatchString(string(e.Code)) {
			t.Errorf("code %q", e.Code)
		}
		for _, line := range []string{e.What, e.Why, e.Do} {
			if line == "" || strings.Contains(line, "\n") {
				t.Errorf("%s: line %q", e.Code, line)
			}
		}
		if strings.HasSuffix(e.What, ".") || !strings.HasSuffix(e.Why, ".") || !strings.HasSuffix(e.Do, ".") {
			t.Errorf("%s: full stops", e.Code)
		}
	}
	if len(declared) > 0 {
		t.Errorf("without an entry: %v", declared)
	}
}

func TestOf(t *testing.T) {
	tag := func(c advice.Code, err error) error { return advice.Tag(c, err) }
	plain := errors.New("plain")
	for name, test := range map[string]struct {
		err  error
		want advice.Code
	}{
		"nothing":                       {nil, ""},
		"unknown":                       {plain, ""},
		"disk":                          {fmt.Errorf("save: %w", &fs.PathError{Op: "write", Err: syscall.ENOSPC}), advice.DiskFull},
		"quota":                         {syscall.EDQUOT, advice.DiskFull},
		"permission":                    {os.ErrPermission, advice.NoPermission},
		"port":                          {&net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, advice.PortTaken},
		"name":                          {&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, advice.NameNotResolved},
		"expired":                       {x509.CertificateInvalidError{Reason: x509.Expired}, advice.ClockWrong},
		"other flaw":                    {x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, advice.CAUntrusted},
		"unknown authority":             {x509.UnknownAuthorityError{}, advice.CAUntrusted},
		"tagged":                        {fmt.Errorf("a: %w", tag(advice.NotServed, plain)), advice.NotServed},
		"an error's own code first":     {tag(advice.CAUnreachable, &net.DNSError{}), advice.CAUnreachable},
		"a cause is more telling":       {tag(advice.CAUnreachable, x509.UnknownAuthorityError{}), advice.CAUntrusted},
		"a cause deep below":            {tag(advice.NotServed, fmt.Errorf("a: %w", errors.Join(plain, syscall.ENOSPC))), advice.DiskFull},
		"joined: the catalogue's order": {errors.Join(tag(advice.NotServed, plain), tag(advice.PortClosed, plain)), advice.PortClosed},
		"joined: only one is known":     {errors.Join(plain, tag(advice.NotServed, plain)), advice.NotServed},
		"no tag leaves it to the cause": {tag("", syscall.EACCES), advice.NoPermission},
	} {
		t.Run(name, func(t *testing.T) {
			if got := advice.Of(test.err); got != test.want {
				t.Errorf("Of(%v) = %q, want %q", test.err, got, test.want)
			}
		})
	}
	if advice.Tag(advice.DiskFull, nil) != nil {
		t.Error("nil has a code")
	}
	if err := tag(advice.NotServed, plain); !errors.Is(err, plain) || err.Error() != "plain" {
		t.Errorf("tagging changed %v", err)
	}
	_, err := os.ReadFile(filepath.Join(t.TempDir(), "missing"))
	if got := advice.Of(err); got != "" {
		t.Errorf("a missing file is %q", got)
	}
}

// TestOfProblem has problem documents as Pebble and Boulder write them.
func TestOfProblem(t *testing.T) {
	const namespace = "urn:ietf:params:acme:error:"
	for _, test := range []struct {
		kind, detail string
		want         advice.Code
	}{
		{"connection", `Get "http://example.com:5002/.well-known/acme-challenge/x": could not resolve URL "http://example.com:5002/.well-known/acme-challenge/x"`, advice.NameNotResolved},
		{"connection", `Get "http://example.com:5002/.well-known/acme-challenge/x": dial tcp 127.0.0.1:5002: connect: connection refused`, advice.PortClosed},
		{"connection", "192.0.2.7: Fetching http://example.com/.well-known/acme-challenge/x: Timeout during connect (likely firewall problem)", advice.PortClosed},
		{"malformed", `Could not resolve URL "example.com"`, advice.NameNotResolved},
		{"unauthorized", "Failed to connect to example.com:5001 for the tls-alpn-01 challenge", advice.PortClosed},
		{"unauthorized", "No TXT records found for DNS challenge", advice.DNSPropagation},
		{"unauthorized", "Correct value not found for DNS challenge", advice.DNSPropagation},
		{"unauthorized", `Incorrect TXT record "x" found at _acme-challenge.example.com`, advice.DNSPropagation},
		{"unauthorized", "Non-200 status code from HTTP: http://example.com:5002/.well-known/acme-challenge/x returned 404", advice.WrongAnswer},
		{"unauthorized", `192.0.2.7: Invalid response from http://example.com/.well-known/acme-challenge/x: 404`, advice.WrongAnswer},
		{"dns", "DNS problem: NXDOMAIN looking up A for example.com - check that a DNS record exists for this domain", advice.NameNotResolved},
		{"dns", "DNS problem: looking up A for example.com: DNSSEC: Bogus: validation failure", advice.DNSSECBroken},
		{"caa", "CAA record for example.com prevents issuance", advice.CAAForbids},
		{"rejectedIdentifier", "Order included an identifier for which issuance is forbidden by policy", advice.NameRefused},
		{"invalidProfile", `Order includes unrecognized profile name "x"`, advice.ProfileNotOffered},
		{"externalAccountRequired", "ACME server policy requires newAccount requests must include a value for the 'externalAccountBinding' field", advice.AccountRefused},
		{"serverInternal", "oops", ""},
		{"malformed", "JWS verification error", advice.AccountRefused},
		{"rateLimited", "Your account is temporarily prevented from requesting certificates for example.com and possibly others. Please visit: https://sfe.example/x", advice.AccountPaused},
		{"rateLimited", "too many certificates (5) already issued for this exact set of identifiers", advice.RateLimited},
		{"connection", "192.0.2.7: Fetching https://example.com:8443/x: Invalid port in redirect target. Only ports 80 and 443 are supported, not 8443", advice.RedirectRefused},
		{"connection", "192.0.2.7: Fetching http://example.com/x: Redirect loop detected", advice.RedirectRefused},
		{"connection", "192.0.2.7: Fetching http://example.com/x: Too many redirects", advice.RedirectRefused},
		{"connection", "192.0.2.7: Fetching http://example.com/x: Timeout after connect (your server may be slow or overloaded)", advice.ServerSlow},
		{"connection", "192.0.2.7: Fetching http://example.com/x: Timeout during read (your server may be slow or overloaded)", advice.ServerSlow},
		{"dns", "no valid A records found for i.example.com; no valid AAAA records found for i.example.com", advice.PrivateAddress},
		{"unauthorized", "OCSP must-staple extension is no longer available: see https://letsencrypt.org/2024/12/05/ending-ocsp", advice.StapleRefused},
		{"rejectedIdentifier", `Profile "classic" does not permit ip type identifiers`, advice.ProfileNotOffered},
		{"unauthorized", `account ID 7 is not permitted to use certificate profile "shortlived"`, advice.ProfileNotOffered},
	} {
		if got := advice.OfProblem(namespace+test.kind, test.detail); got != test.want {
			t.Errorf("%s %q is %q, want %q", test.kind, test.detail, got, test.want)
		}
	}
}
