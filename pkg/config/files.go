package config

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges/dns01"
)

// minHMAC is the least key that HS256 allows, in bytes (RFC 7518 section 3.2).
const minHMAC = 32

// HMAC reads the HMAC key and returns it as the CA gave it, in base64url without padding. No error contains any part of
// it.
func (e *EAB) HMAC() (certs.Secret, error) {
	secret, err := ReadSecret(e.HMACFile)
	if err != nil {
		return nil, err
	}
	key, err := certs.ParseHMAC(secret)
	if err != nil {
		return nil, fmt.Errorf("%s is not base64url; copy the HMAC key as the CA shows it", e.HMACFile)
	}
	if len(key) < minHMAC {
		return nil, fmt.Errorf("%s holds a key of %d bytes, at least %d are needed", e.HMACFile, len(key), minHMAC)
	}
	return certs.Secret(base64.RawURLEncoding.EncodeToString(key)), nil
}

// Roots reads ca_file. It is nil without one: the system's trust store is used.
func (is *Issuer) Roots() (*x509.CertPool, error) {
	if is.CAFile == "" {
		return nil, nil
	}
	text, err := readFile(is.CAFile, 0o022, maxFile)
	if err != nil {
		return nil, err
	}
	pool, err := certs.Pool(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", is.CAFile, err)
	}
	return pool, nil
}

// files looks at the files that the configuration names, and keeps the CSRs.
func (v *validator) files() {
	v.secret("proxy_auth_file", v.c.ProxyAuthFile)
	for i := range v.c.Issuers {
		is := &v.c.Issuers[i]
		path := entryPath("issuers", is.Name)
		_, err := is.Roots()
		v.also(path+".ca_file", err)
		v.secret(path+".proxy_auth_file", is.ProxyAuthFile)
		if is.EAB != nil {
			_, err := is.EAB.HMAC()
			v.also(path+".eab.hmac_file", err)
		}
	}
	for i := range v.c.Solvers {
		for key, d := range map[string]*dns01.Config{".dns-01": v.c.Solvers[i].DNS01, ".dns-account-01": v.c.Solvers[i].DNSAccount01} {
			if d != nil && d.Validate() == nil {
				v.also(entryPath("solvers", v.c.Solvers[i].Name)+key, d.Check())
			}
		}
		if v.examine != nil && v.examine.Solver != nil {
			v.check(entryPath("solvers", v.c.Solvers[i].Name), v.examine.Solver(&v.c.Solvers[i]))
		}
	}
	v.fleetFiles()
	v.trustFiles()
	v.notifierFiles()
	for i := range v.c.Certificates {
		v.certificateFiles(&v.c.Certificates[i])
	}
}

// certificateFiles looks at the files that a certificate names, and keeps its CSR.
func (v *validator) certificateFiles(cert *Certificate) {
	path := entryPath("certificates", cert.Name)
	if cert.CSRFile != "" {
		var err error
		cert.csr, err = readCSR(cert)
		v.also(path+".csr_file", err)
	}
	if h := cert.Hooks; h != nil {
		v.program(path+".hooks.pre", h.Pre)
		v.program(path+".hooks.post", h.Post)
	}
	for j := range cert.Install {
		at := fmt.Sprintf("%s.install[%d]", path, j)
		v.installFiles(at, &cert.Install[j])
		plugins := cert.Install[j].plugins()
		if v.examine != nil && v.examine.Target != nil && len(plugins) == 1 && len(identifiers(cert.Names)) > 0 && plugins[0].section.Validate() == nil {
			v.also(join(at, plugins[0].key), v.examine.Target(v.c, cert, &cert.Install[j]))
		}
	}
}

// installFiles looks at the files that an entry of install names.
func (v *validator) installFiles(at string, in *Install) {
	v.programs(at, in)
	if f := in.File; f != nil {
		v.secret(at+".file.password_file", f.PasswordFile)
	}
	if s := in.SSH; s != nil {
		v.secret(at+".ssh.key_file", s.KeyFile)
	}
	if i := in.Imperva; i != nil {
		v.secret(at+".imperva.api_key_file", i.APIKeyFile)
		v.secret(at+".imperva.passphrase_file", i.PassphraseFile)
		v.secret(at+".imperva.proxy_auth_file", i.ProxyAuthFile)
	}
}

// programs looks at what an entry of install runs.
func (v *validator) programs(at string, in *Install) {
	if c := in.Nginx; c != nil {
		v.program(at+".nginx.test", c.Test)
		v.program(at+".nginx.reload", c.Reload)
	}
	if c := in.Apache; c != nil {
		v.program(at+".apache.test", c.Test)
		v.program(at+".apache.reload", c.Reload)
	}
	if c := in.HAProxy; c != nil {
		v.program(at+".haproxy.reload", c.Reload)
	}
	if c := in.File; c != nil {
		v.program(at+".file.reload", c.Reload)
	}
	if c := in.Command; c != nil {
		v.program(at+".command.run", c.Run)
		v.program(at+".command.check", c.Check)
	}
}

// program reports a program that somebody else could have put there. One that is missing may still be installed; it fails
// when it is run.
func (v *validator) program(at string, argv []string) {
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return
	}
	err := vetted.Program(argv[0])
	if !errors.Is(err, fs.ErrNotExist) {
		v.also(at, err)
	} else if v.examine != nil {
		v.warn(at, "%s is missing: it fails when it is run", argv[0])
	}
}

// secret looks whether a secret can be read; "" is none.
func (v *validator) secret(path, file string) {
	if file != "" {
		_, err := ReadSecret(file)
		v.also(path, err)
	}
}

// also reports an error unless a problem at the same key path explains it.
func (v *validator) also(path string, err error) {
	if !slices.ContainsFunc(v.problems, func(p Problem) bool { return p.Path == path }) {
		v.check(path, err)
	}
}

// readCSR reads csr_file, which must ask for exactly the certificate's names.
func readCSR(cert *Certificate) (*x509.CertificateRequest, error) {
	der, err := readFile(cert.CSRFile, 0o022, maxFile)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(der); block != nil {
		if !strings.HasSuffix(block.Type, "CERTIFICATE REQUEST") {
			return nil, fmt.Errorf("%s holds a %s, not a certificate request", cert.CSRFile, quote(block.Type))
		}
		der = block.Bytes
	}
	csr, err := certs.ParseRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%s is not a certificate request: %w", cert.CSRFile, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%s is not signed by its own key: %w", cert.CSRFile, err)
	}
	return csr, checkCSRNames(csr, cert)
}

func checkCSRNames(csr *x509.CertificateRequest, cert *Certificate) error {
	if len(csr.EmailAddresses)+len(csr.URIs) > 0 {
		return errors.New("the request asks for mail addresses or URIs, which CAs do not certify for servers")
	}
	asked := slices.Clone(csr.DNSNames)
	for _, ip := range csr.IPAddresses {
		asked = append(asked, ip.String())
	}
	want, got := identifiers(cert.Names), identifiers(asked)
	for _, id := range want {
		if !slices.Contains(got, id) {
			return fmt.Errorf("%s does not ask for %s", cert.CSRFile, id)
		}
	}
	for _, id := range got {
		if !slices.Contains(want, id) {
			return fmt.Errorf("%s also asks for %s, which is not among the names", cert.CSRFile, id)
		}
	}
	return nil
}
