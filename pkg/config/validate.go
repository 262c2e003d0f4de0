package config

import (
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/proxy"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// Validate reports everything that is wrong with the configuration in an [*Error], and what is doubtful as warnings. It
// looks at neither disk nor network. [Load] has done it already.
func (c *Config) Validate() ([]Warning, error) {
	v := newValidator(c)
	v.all()
	return v.warnings, asError(v.problems, nil)
}

// validator collects what is wrong with one configuration, by key path.
type validator struct {
	c        *Config
	sources  []*source // what c was read from; empty for a Config from elsewhere
	lenient  bool      // a name that may be defined in a file that could not be read is no problem
	partial  bool      // c is a part, so an unknown name may be defined elsewhere
	examine  *Examiner // nil unless everything is reported
	issuers  map[string]*Issuer
	solvers  map[string]*Solver
	problems []Problem
	warnings []Warning
}

func newValidator(c *Config) *validator {
	v := &validator{c: c, issuers: map[string]*Issuer{}, solvers: map[string]*Solver{}}
	for _, list := range [][]Issuer{builtinIssuers(), c.Issuers} {
		for _, is := range list {
			known, _ := c.Issuer(is.Name)
			v.issuers[is.Name] = &known
		}
	}
	for _, list := range [][]Solver{builtinSolvers(), c.Solvers} {
		for _, s := range list {
			known, _ := c.Solver(s.Name)
			v.solvers[s.Name] = &known
		}
	}
	return v
}

func (v *validator) report(path, format string, args ...any) {
	v.problems = append(v.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (v *validator) warn(path, format string, args ...any) {
	v.warnings = append(v.warnings, Warning{Path: path, Message: fmt.Sprintf(format, args...)})
}

// check reports an error, if there is one.
func (v *validator) check(path string, err error) {
	if err != nil {
		v.report(path, "%s", err)
	}
}

// section reports what the Validate method of a section returned: joined errors one by one, each at the key with which
// its text begins.
func (v *validator) section(path string, section any, err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			v.section(path, section, e)
		}
		return
	}
	key, message, found := strings.Cut(err.Error(), ": ")
	if found && fieldsOf(reflect.TypeOf(section).Elem()).types[key] != nil {
		v.report(join(path, key), "%s", message)
		return
	}
	v.report(path, "%s", err)
}

func (v *validator) all() {
	v.general()
	v.renewal(&v.c.Renewal)
	for i := range v.c.Issuers {
		v.issuer(entryPath("issuers", v.c.Issuers[i].Name), &v.c.Issuers[i])
	}
	for i := range v.c.Solvers {
		v.solver(entryPath("solvers", v.c.Solvers[i].Name), &v.c.Solvers[i])
	}
	for i := range v.c.Trust {
		v.trustStore(entryPath("trust", v.c.Trust[i].Name), &v.c.Trust[i])
	}
	for i := range v.c.Notify {
		v.notifier(entryPath("notify", v.c.Notify[i].Name), &v.c.Notify[i])
	}
	v.references("defaults.issuers", "issuer", v.c.Defaults.Issuers, keys(v.issuers))
	v.references("defaults.solvers", "solver", v.c.Defaults.Solvers, keys(v.solvers))
	v.keyTypes("defaults.key_type", v.c.Defaults.KeyType)
	v.duration("defaults.renew_before", v.c.Defaults.RenewBefore)
	for i := range v.c.Certificates {
		v.certificate(entryPath("certificates", v.c.Certificates[i].Name), &v.c.Certificates[i])
	}
	v.fleet()
	v.unique()
	v.terms()
	v.bindings()
	v.addresses()
}

func (v *validator) general() {
	v.email("email", v.c.Email)
	v.check("state_dir", checkPath(v.c.StateDir))
	v.check("socket", checkPath(v.c.Socket))
	// Linux has 108 bytes for the path and its final NUL (unix(7)).
	if len(v.c.Socket) > 107 {
		v.report("socket", "the path has %d bytes, a unix socket allows 107", len(v.c.Socket))
	}
	v.oneOf("log.level", v.c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", v.c.Log.Format, "console", "json")
	v.web()
	v.proxy("", v.c.Proxy, v.c.ProxyAuthFile)
	v.oneOf("preflight", v.c.Preflight, PreflightOff, PreflightAdvisory, PreflightEnforce)
	v.probe(&v.c.Probe)
}

func (v *validator) renewal(r *Renewal) {
	v.check("renewal.schedule", plan.CheckSchedule(r.Schedule))
	v.between("renewal.concurrency", r.Concurrency, 1, 256)
	v.between("renewal.keep", r.Keep, 1, 1000)
	if r.Before < time.Hour {
		v.report("renewal.before", "%s is shorter than 1h", show(r.Before))
	}
	if r.Splay < 0 || r.Splay > day {
		v.report("renewal.splay", "%s is not between 0s and 24h", show(r.Splay))
	}
	v.window("renewal.window", r.Window)
}

func (v *validator) window(path string, w *Window) {
	if w != nil {
		v.check(path, plan.CheckWindow(*maintenance(w)))
	}
}

func (v *validator) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.report(path, "%s is not one of %s", quote(value), strings.Join(allowed, ", "))
	}
}

func (v *validator) between(path string, value, least, most int) {
	if value < least || value > most {
		v.report(path, "%d is not between %d and %d", value, least, most)
	}
}

// duration checks a duration whose zero means that none was given.
func (v *validator) duration(path string, d time.Duration) {
	if d < 0 || d > 0 && d < time.Minute {
		v.report(path, "%s is shorter than 1m", show(d))
	}
}

func (v *validator) email(path, address string) {
	if address == "" {
		return
	}
	if a, err := mail.ParseAddress(address); err != nil || a.Address != address {
		v.report(path, "%s is not a plain email address such as ops@example.com", quote(address))
	}
}

// text checks a word or phrase that goes to the CA or is compared with what it sends.
func (v *validator) text(path, value string) {
	if len(value) > 256 {
		v.report(path, "the text has %d bytes, at most 256 are allowed", len(value))
	}
}

var word = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func (v *validator) name(path, name string) {
	if !word.MatchString(name) {
		v.report(join(path, "name"), "%s is not a name; use a-z, 0-9 and after the first character also . _ -, at most 64", quote(name))
	}
}

func (v *validator) issuer(path string, is *Issuer) {
	v.name(path, is.Name)
	known, builtin := builtinIssuer(is.Name)
	switch {
	case builtin && is.Directory != "" && is.Directory != known.Directory:
		v.report(path+".directory", "%s is a built-in issuer with another directory; choose another name", is.Name)
	case builtin && is.Private:
		v.report(path+".private", "%s is a built-in issuer and public; choose another name", is.Name)
	case !builtin:
		v.check(path+".directory", checkDirectory(is.Directory))
	}
	if is.Staging != "" {
		v.check(path+".staging", checkDirectory(is.Staging))
	}
	if is.CAFile != "" {
		v.check(path+".ca_file", checkPath(is.CAFile))
	}
	v.email(path+".email", is.Email)
	v.proxy(path+".", is.Proxy, is.ProxyAuthFile)
	v.hosts(path+".hosts", is.Hosts)
	v.duration(path+".min_lifetime", is.MinLifetime)
	if is.Preflight != "" {
		v.oneOf(path+".preflight", is.Preflight, PreflightOff, PreflightAdvisory, PreflightEnforce)
	}
	if is.OrdersPer3h < noLimit {
		v.report(path+".orders_per_3h", "%d is neither a number of orders nor -1 for no limit", is.OrdersPer3h)
	}
	if is.EAB != nil {
		v.eab(path+".eab", is.EAB)
	}
}

func (v *validator) hosts(path string, list []string) {
	for i, host := range list {
		if u, err := url.Parse("https://" + host); err != nil || u.Host != host || u.Hostname() == "" {
			v.report(fmt.Sprintf("%s[%d]", path, i), "%q is neither a host nor HOST:PORT", host)
		}
	}
}

// proxy checks the two keys of a proxy; where is what comes before them.
func (v *validator) proxy(where, address, authFile string) {
	v.check(where+"proxy", proxy.Check(address))
	if authFile == "" {
		return
	}
	if address == "" || address == proxy.None {
		v.report(where+"proxy_auth_file", "there is no proxy beside it that it is for")
	}
	v.check(where+"proxy_auth_file", checkSecretPath(authFile))
}

func (v *validator) eab(path string, eab *EAB) {
	if eab.KID == "" {
		v.report(path+".kid", "the key identifier is missing; the CA shows it together with the HMAC key")
	}
	v.text(path+".kid", eab.KID)
	if eab.Algorithm != "" {
		v.oneOf(path+".algorithm", eab.Algorithm, "HS256", "HS384", "HS512")
	}
	if eab.HMACFile == "" {
		v.report(path+".hmac_file", "the file with the HMAC key is missing")
		return
	}
	v.check(path+".hmac_file", checkSecretPath(eab.HMACFile))
}

// maxURL is longer than the directory URL of any CA.
const maxURL = 2048

// checkDirectory reports why a URL cannot be that of an ACME directory.
func checkDirectory(text string) error {
	if text == "" {
		return errors.New("the URL of the CA's ACME directory is missing")
	}
	if len(text) > maxURL {
		return fmt.Errorf("the URL has %d bytes, at most %d are allowed", len(text), maxURL)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return errors.New("not a URL such as https://ca.internal/acme/directory")
	case u.User != nil:
		return errors.New("a URL with a user or password is refused; CAs authenticate by account key and eab")
	case u.Scheme != "https":
		return fmt.Errorf("the scheme is %s, only https is allowed", quote(u.Scheme))
	case u.Fragment != "":
		return errors.New("a URL with a fragment (#) is refused")
	}
	return nil
}

func (v *validator) solver(path string, s *Solver) {
	v.name(path, s.Name)
	if n := len(s.types()); n != 1 {
		v.report(path, "a solver has exactly one of the sections http-01, tls-alpn-01, dns-01, dns-account-01 and dns-persist-01, this one has %s", count(n))
	}
	for i, zone := range s.Zones {
		at := fmt.Sprintf("%s.zones[%d]", path, i)
		id, _, err := certs.ParseIdentifier(zone)
		v.check(at, err)
		if err == nil && (id.Type != certs.DNS || id.IsWildcard()) {
			v.report(at, "%s is not a domain; a zone stands for the domain and everything below it", zone)
		}
	}
	if h := s.HTTP01; h != nil {
		v.http01(path+".http-01", h)
	}
	if t := s.TLSALPN01; t != nil {
		v.listen(path+".tls-alpn-01.listen", t.Listen)
	}
	if d := s.DNS01; d != nil {
		v.section(path+".dns-01", d, d.Validate())
	}
	if d := s.DNSAccount01; d != nil {
		v.section(path+".dns-account-01", d, d.Validate())
	}
	if d := s.DNSPersist01; d != nil {
		v.section(path+".dns-persist-01", d, d.Validate())
	}
}

func (v *validator) http01(path string, h *HTTP01) {
	if socket, ok := strings.CutPrefix(h.Listen, "unix:"); ok {
		v.check(path+".listen", checkPath(socket))
	} else {
		v.listen(path+".listen", h.Listen)
	}
	ways := slices.DeleteFunc([]bool{h.Listen != "", h.Webroot != "", h.ChallengeDir != "", h.Stateless}, func(given bool) bool { return !given })
	if len(ways) > 1 {
		v.report(path, "give only one of listen, webroot, challenge_dir and stateless")
	}
	if h.Webroot != "" {
		v.check(path+".webroot", checkPath(h.Webroot))
	} else if h.FollowLinks {
		v.report(path+".follow_links", "it needs webroot")
	}
	if h.ChallengeDir != "" {
		v.check(path+".challenge_dir", checkPath(h.ChallengeDir))
	}
	if len(h.ProxyProtocol) > 0 && (h.Webroot+h.ChallengeDir != "" || h.Stateless) {
		v.report(path+".proxy_protocol", "it needs listen, where acmed answers itself")
	}
	for i, proxy := range h.ProxyProtocol {
		if _, err := parsePrefix(proxy); err != nil {
			v.report(fmt.Sprintf("%s.proxy_protocol[%d]", path, i), "%s is neither an address nor a network such as 10.0.0.0/8", quote(proxy))
		}
	}
}

func count(n int) string {
	if n == 0 {
		return "none"
	}
	return strconv.Itoa(n)
}

func (v *validator) listen(path, address string) {
	if address == "" {
		return
	}
	text := address
	if strings.HasPrefix(address, ":") {
		text = "0.0.0.0" + address
	}
	if a, err := netip.ParseAddrPort(text); err != nil || a.Port() == 0 {
		v.report(path, "%s is not an address to listen on; write IP:PORT, [IPV6]:PORT or :PORT", quote(address))
	}
}

// incomplete reports whether a file could not be read.
func (v *validator) incomplete() bool {
	return v.partial || slices.ContainsFunc(v.sources, func(s *source) bool { return s.lost })
}

// elsewhere reports whether a name is probably defined in a part of the configuration that cannot be used.
func (v *validator) elsewhere(name string) bool {
	return v.partial || slices.ContainsFunc(v.sources, func(s *source) bool {
		return s.lost && v.lenient || len(s.problems) > 0 && s.mentions(name)
	})
}

// refused reports what a CA will reject: a problem for [Check], and otherwise a warning, because a file that is left out
// would take more with it.
func (v *validator) refused(path, format string, args ...any) {
	if v.examine != nil {
		v.report(path, format, args...)
	} else {
		v.warn(path, format, args...)
	}
}

// references checks a list of names of issuers or solvers.
func (v *validator) references(path, what string, names, known []string) {
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", path, i)
		if !slices.Contains(known, name) && !v.elsewhere(name) {
			v.report(at, "there is no %s %s%s", what, quote(name), suggest(name, known))
		}
		if slices.Contains(names[:i], name) {
			v.report(at, "%s is listed twice", quote(name))
		}
	}
}

func (v *validator) keyTypes(path string, types KeyTypes) {
	for _, k := range types {
		if !slices.Contains(certs.KeyTypes(), k) {
			v.report(path, "%s is not a key type; use one of %s", quote(string(k)), listed(certs.KeyTypes()))
		}
	}
	if len(types) > 2 || len(types) == 2 && types[0].IsRSA() == types[1].IsRSA() {
		v.report(path, "give one key type, or one EC and one RSA type")
	}
}

func listed[S ~string](list []S) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}

func keys[V any](m map[string]V) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// unique checks names within each list. Files cannot get here with repeated names; a Config from elsewhere can.
func (v *validator) unique() {
	seen := map[string]bool{}
	once := func(list, name string) {
		path := entryPath(list, name)
		if seen[path] {
			v.report(path, "the name is used twice")
		}
		seen[path] = true
	}
	for _, is := range v.c.Issuers {
		once("issuers", is.Name)
	}
	for _, s := range v.c.Solvers {
		once("solvers", s.Name)
	}
	for _, s := range v.c.Trust {
		once("trust", s.Name)
	}
	for _, n := range v.c.Notify {
		once("notify", n.Name)
	}
	for _, c := range v.c.Certificates {
		once("certificates", c.Name)
	}
}

// used lists the issuers of all certificates, each once, in order.
func (v *validator) used() []*Issuer {
	var used []*Issuer
	for i := range v.c.Certificates {
		for _, name := range v.c.issuersOf(&v.c.Certificates[i]) {
			if is, ok := v.issuers[name]; ok && !slices.Contains(used, is) {
				used = append(used, is)
			}
		}
	}
	return used
}

func (v *validator) terms() {
	if v.c.AgreeTOS || v.incomplete() {
		return
	}
	for _, is := range v.used() {
		if !is.Private {
			v.report("agree_tos", "must be true; read the terms of service of %s, and set agree_tos: true if you agree", is.Name)
			return
		}
	}
}

func (v *validator) bindings() {
	for _, is := range v.used() {
		if wantsEAB(is.Name) && is.EAB == nil {
			v.warn(entryPath("issuers", is.Name), "%s opens no account without an external account binding; add an issuer with this name and eab", is.Name)
		}
	}
}
