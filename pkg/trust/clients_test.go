package trust

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// sample is one question on disk: chain.pem, anchors.pem and key.pem of the leaf.
type sample struct {
	question
	dir string
}

// samples makes questions whose chains are mostly as servers present them, to be answered now.
func samples(t *testing.T, seed uint64, n int) []sample {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	var list []sample
	for len(list) < n {
		w := newWorld(t, r)
		chain := append([]*x509.Certificate{w.leaf}, w.some(w.all, 6)...)
		if !w.one(5) {
			chain = Arrange(append([]*x509.Certificate{w.leaf}, w.all...), time.Now()).Path
			chain = chain[:1+w.r.IntN(len(chain))]
		}
		anchors := w.some(append(w.all, w.leaf), 4)
		if w.one(2) && len(chain) > 1 { // pins one of those above the leaf
			anchors = append(anchors, chain[1+w.r.IntN(len(chain)-1)])
		}
		if len(anchors) == 0 {
			continue
		}
		s := sample{question{anchors: anchors, chain: chain, host: "www.example.com", at: time.Now()}, t.TempDir()}
		key, err := x509.MarshalPKCS8PrivateKey(w.key)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string][]byte{
			"chain.pem": encode(chain...), "anchors.pem": encode(anchors...), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		} {
			if err := os.WriteFile(filepath.Join(s.dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		list = append(list, s)
	}
	return list
}

// batch runs a program with the directories as its arguments; it prints a line for each, which begins with ok or no.
func batch(t *testing.T, list []sample, argv ...string) []string {
	t.Helper()
	for _, s := range list {
		argv = append(argv, s.dir)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &failed)
	}
	var lines []string
	for scanner := bufio.NewScanner(bytes.NewReader(out)); scanner.Scan(); {
		if text := scanner.Text(); strings.HasPrefix(text, "ok") || strings.HasPrefix(text, "no") {
			lines = append(lines, text)
		}
	}
	if len(lines) != len(list) {
		t.Fatalf("%d answers to %d questions: %s%s", len(lines), len(list), out, &failed)
	}
	return lines
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed (make test wants it)", p)
		}
	}
}

func askGnuTLS(t *testing.T, list []sample) (lines []string) {
	need(t, "certtool")
	for _, s := range list {
		out, err := exec.Command("certtool", "--verify", "--load-ca-certificate", filepath.Join(s.dir, "anchors.pem"),
			"--infile", filepath.Join(s.dir, "chain.pem"), "--verify-hostname", s.host, "--verify-purpose", "1.3.6.1.5.5.7.3.1").CombinedOutput()
		word := "ok "
		if err != nil {
			word = "no "
		}
		lines = append(lines, word+string(out))
	}
	return lines
}

const mbedtlsProgram = `
#include <stdio.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/oid.h>
int main(int n, char **dirs) {
	for (int i = 1; i < n; i++) {
		char path[4096], text[512] = "";
		mbedtls_x509_crt chain, anchors;
		uint32_t flags = 0;
		mbedtls_x509_crt_init(&chain); mbedtls_x509_crt_init(&anchors);
		snprintf(path, sizeof path, "%s/chain.pem", dirs[i]);
		int bad = mbedtls_x509_crt_parse_file(&chain, path);
		snprintf(path, sizeof path, "%s/anchors.pem", dirs[i]);
		if (!bad) bad = mbedtls_x509_crt_parse_file(&anchors, path) < 0;
		if (!bad) bad = mbedtls_x509_crt_verify(&chain, &anchors, NULL, "www.example.com", &flags, NULL, NULL);
		if (!bad) bad = mbedtls_x509_crt_check_key_usage(&chain, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
		if (!bad) bad = mbedtls_x509_crt_check_extended_key_usage(&chain, MBEDTLS_OID_SERVER_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH));
		mbedtls_x509_crt_verify_info(text, sizeof text, "", flags);
		for (char *c = text; *c; c++) if (*c == '\n') *c = ' ';
		printf("%s %d %s\n", bad ? "no" : "ok", bad, text);
		mbedtls_x509_crt_free(&chain); mbedtls_x509_crt_free(&anchors);
	}
	return 0;
}
`

func askMbedTLS(t *testing.T, list []sample) []string {
	need(t, "gcc")
	if _, err := os.Stat("/usr/include/mbedtls/x509_crt.h"); err != nil {
		t.Skip("libmbedtls-dev is not installed (make test wants it)")
	}
	program := filepath.Join(t.TempDir(), "verify")
	if out, err := exec.Command("gcc", "-o", program, write(t, "verify.c", mbedtlsProgram), "-lmbedx509", "-lmbedcrypto").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return batch(t, list, program)
}

const javaProgram = `
import java.io.*; import java.nio.file.*; import java.security.*; import java.security.cert.*; import java.util.*; import javax.net.ssl.*;
public class Verify {
	public static void main(String[] dirs) throws Exception {
		CertificateFactory f = CertificateFactory.getInstance("X.509");
		for (String dir : dirs) {
			try {
				KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType()); store.load(null);
				int n = 0;
				for (java.security.cert.Certificate c : f.generateCertificates(Files.newInputStream(Path.of(dir, "anchors.pem")))) store.setCertificateEntry("" + n++, c);
				TrustManagerFactory m = TrustManagerFactory.getInstance("PKIX"); m.init(store);
				X509Certificate[] chain = f.generateCertificates(Files.newInputStream(Path.of(dir, "chain.pem"))).toArray(new X509Certificate[0]);
				((X509TrustManager) m.getTrustManagers()[0]).checkServerTrusted(chain, "ECDHE_ECDSA");
				System.out.println("ok");
			} catch (Exception e) { System.out.println("no " + e.toString().replace('\n', ' ')); }
		}
	}
}
`

func askJava(t *testing.T, list []sample) []string {
	need(t, "java", "javac")
	return batch(t, list, "java", write(t, "Verify.java", javaProgram))
}

const pythonProgram = `
import ssl, sys, os
for dir in sys.argv[1:]:
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(os.path.join(dir, "chain.pem"), os.path.join(dir, "key.pem"))
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(os.path.join(dir, "anchors.pem"))
        a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
        c = client.wrap_bio(a, b, server_hostname="www.example.com")
        s = server.wrap_bio(b, a, server_side=True)
        done = False
        for _ in range(10):
            try:
                c.do_handshake()
                done = True
                break
            except ssl.SSLWantReadError:
                pass
            try:
                s.do_handshake()
            except ssl.SSLWantReadError:
                pass
        print("ok" if done else "no handshake")
    except Exception as e:
        print("no", repr(e))
`

func askPython(t *testing.T, list []sample) []string {
	need(t, "/usr/bin/python3")
	return batch(t, list, "/usr/bin/python3", write(t, "verify.py", pythonProgram))
}

// TestLikeTheClients: where the gate says yes for a client, the program says yes. It says no as well to some chains that the
// program accepts, but not to most.
func TestLikeTheClients(t *testing.T) {
	seed, cases := rand.Uint64(), 300
	if text := os.Getenv("TRUST_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	if text := os.Getenv("TRUST_CASES"); text != "" {
		cases, _ = strconv.Atoi(text)
	}
	t.Logf("seed %d (TRUST_SEED repeats it)", seed)
	list := samples(t, seed, cases)
	for client, ask := range map[Client]func(*testing.T, []sample) []string{
		GnuTLS: askGnuTLS, MbedTLS: askMbedTLS, Java: askJava, Python: askPython,
	} {
		t.Run(string(client), func(t *testing.T) {
			accepted, both := 0, 0
			for n, said := range ask(t, list) {
				q := list[n].question
				id, _, err := certs.ParseIdentifier(q.host)
				if err != nil {
					t.Fatal(err)
				}
				got := New("client", q.anchors).For(client).Verify(q.chain, []certs.Identifier{id}, q.at)
				if strings.HasPrefix(said, "ok") {
					if accepted++; got == nil {
						both++
					}
				} else if got == nil {
					t.Errorf("case %d: we accept, %s says %s\n%s", n, client, strings.TrimSpace(said), describe(q))
				}
			}
			t.Logf("%d accepted, %d of them by us", accepted, both)
			if accepted < cases/10 || both < accepted*4/10 {
				t.Error("the cases are too one-sided to mean anything")
			}
		})
	}
}

// The samples of the field: who accepts a pinned intermediate, leaf or root below a chain of which length.
func TestClientsDiffer(t *testing.T) {
	root, upper, lower, leaf := newAuthority(t, "root"), newAuthority(t, "upper"), newAuthority(t, "lower"), newAuthority(t, "leaf")
	top := root.sign(t, root, 400*day, nil)
	second := upper.sign(t, root, 400*day, nil)
	first := lower.sign(t, upper, 400*day, nil)
	end := leaf.sign(t, lower, 400*day, asLeaf("www.example.com"))
	long, short := []*x509.Certificate{end, first, second}, []*x509.Certificate{end, first}
	all := []Client{Strictest, OpenSSL, GnuTLS, MbedTLS, Java, Python, SystemClient}
	for _, tc := range []struct {
		name    string
		anchors []*x509.Certificate
		chain   []*x509.Certificate
		refuse  []Client
	}{
		{"root", []*x509.Certificate{top}, long, nil},
		{"root, chain too short", []*x509.Certificate{top}, short, all},
		{"intermediate, longer chain", []*x509.Certificate{first}, long, []Client{Strictest, GnuTLS, Python}},
		{"intermediate alone", []*x509.Certificate{first}, short, []Client{Python}},
		{"intermediate and root", []*x509.Certificate{first, top}, long, []Client{Strictest, Python}}, // OpenSSL goes on from an anchor among anchors only
		{"leaf", []*x509.Certificate{end}, long, []Client{GnuTLS, MbedTLS, Python}},
	} {
		for _, c := range all {
			err := New("client", tc.anchors).For(c).Verify(tc.chain, []certs.Identifier{identifier(t, "www.example.com")}, epoch.Add(day))
			refused := false
			for _, r := range tc.refuse {
				refused = refused || r == c
			}
			if (err != nil) != refused {
				t.Errorf("%s, client %q: %v", tc.name, c, err)
			}
		}
	}
	// A CA that only lengthens its chain: the shorter one pleases the device, and nothing is lost.
	b := &certs.Bundle{Leaf: end, CertPEM: encode(end), ChainPEM: encode(first, second)}
	device := []*Store{New("device", []*x509.Certificate{first}).For(GnuTLS)}
	chosen, failing := Choose(b, device, epoch.Add(day))
	if len(failing) != 0 || !bytes.Equal(chosen.ChainPEM, encode(first)) || len(chosen.Alternates) != 1 || !bytes.Equal(chosen.Alternates[0], b.ChainPEM) {
		t.Errorf("chosen %d certificates, %d alternates, failing %v", bytes.Count(chosen.ChainPEM, []byte("BEGIN")), len(chosen.Alternates), failing)
	}
	both := append(device, New("browser", []*x509.Certificate{top}))
	if _, failing := Choose(b, both, epoch.Add(day)); len(failing) != 1 || failing[0].Client != "device" || !strings.Contains(fmt.Sprint(failing[0].Err), "gnutls:") {
		t.Errorf("who needs the whole chain is listed as well: %v", failing)
	}
}
