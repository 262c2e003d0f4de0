package setup

import (
	"cmp"
	"context"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/cmd/acmed/internal/imports"
	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
	"github.com/acmed/acmed/pkg/installers"
)

// translation is one lineage on its way.
type translation struct {
	*importer
	l       *imports.Lineage
	names   []string
	cert    Certificate
	solvers []Solver
	moved   Moved
}

func (t *translation) look(format string, args ...any) {
	t.moved.Notes = append(t.moved.Notes, fmt.Sprintf(format, args...))
}

// wait keeps the file out of the configuration until somebody has done something.
func (t *translation) wait(format string, args ...any) {
	t.moved.Deferred = true
	t.look(format+fmt.Sprintf("; then rename this file to %s.yaml", t.cert.Name), args...)
}

// challenge finds the solver for the other client's way to validate names.
func (t *translation) challenge() error {
	switch c := &t.l.Challenge; {
	case c.Unknown != "":
		t.wait("%s", c.Unknown)
	case c.Provider != "":
		return t.dns(c)
	case c.RFC2136 != nil:
		return t.rfc2136(c)
	case len(c.Command) > 0:
		return t.program(c)
	case c.Site.Kind != "":
		t.webroots(t.rootOf(c.Site))
	case c.Webroots != nil:
		t.webroots(func(name string) string { return cmp.Or(c.Webroots[name], c.Webroot) })
	case c.Dir != "":
		t.solver(Solver{Name: t.cert.Name + "-files", HTTP01: &HTTP01{ChallengeDir: c.Dir}})
	case c.ALPN && c.Listen == "":
		t.cert.Solvers = []string{"tls-alpn-01"}
	case c.ALPN:
		t.solver(Solver{Name: t.cert.Name + "-listen", ALPN01: &HTTP01{Listen: c.Listen}})
	case c.Listen == "":
		t.cert.Solvers = []string{"http-01"}
	default:
		t.solver(Solver{Name: t.cert.Name + "-listen", HTTP01: &HTTP01{Listen: c.Listen}})
	}
	return nil
}

func (t *translation) solver(s Solver) {
	t.solvers = []Solver{s}
	t.cert.Solvers = []string{s.Name}
}

func (t *translation) webroots(root func(string) string) {
	var without []string
	t.solvers, without = Webroots(t.cert.Name, t.names, root)
	for _, s := range t.solvers {
		t.cert.Solvers = append(t.cert.Solvers, s.Name)
	}
	if len(without) > 0 {
		t.wait("no directory is known that is served for %s on port 80; add a solver for it, such as http-01 with webroot or listen", strings.Join(without, ", "))
	}
}

// rootOf looks into the web server's own configuration.
func (t *translation) rootOf(w imports.WebServer) func(string) string {
	sites := t.sitesOf(w.Kind, w.Settings)
	return func(name string) string {
		for _, s := range Serves(sites, name) {
			return s.Root(name)
		}
		return ""
	}
}

// sitesOf finds the sites of a web server, or of all of this machine for the kind "".
func (i *importer) sitesOf(kind string, settings map[string]any) []Site {
	if i.opts.Server.Kind != "" && (kind == "" || kind == i.opts.Server.Kind) && len(settings) == 0 {
		kind, settings = i.opts.Server.Kind, i.opts.Server.Settings
	}
	key := fmt.Sprint(kind, settings)
	if _, known := i.sites[key]; !known {
		sites, err := Find(cmp.Or(i.ctx, context.Background()), kind, settings)
		if err != nil {
			i.note("%s", err)
		}
		i.sites[key] = sites
	}
	return i.sites[key]
}

// dns makes the solver of a DNS provider, and the file with its credentials.
func (t *translation) dns(c *imports.Challenge) error {
	file := t.m.EnvFile(c.Provider)
	missing := catalog.Check(c.Provider, c.Values)
	if missing == nil && len(c.Values) > 0 {
		var err error
		if file, err = t.secretFile(t.cert.Name, c.Provider+".env", envLines(c.Values)); err != nil {
			return err
		}
	} else if _, err := os.Stat(file); err != nil && missing != nil {
		t.wait("create %s, mode 0600, with the values of %s, one on each line: %s (see 'acmed dns describe %s')", file, c.From, strings.Join(c.Variables, " "), c.Provider)
	} else if err != nil {
		file = ""
	}
	section := map[string]any{"provider": c.Provider}
	if file != "" {
		section["env_file"] = file
	}
	t.solver(Solver{Name: t.cert.Name + "-dns", DNS01: section})
	return nil
}

// envLines are the lines of a file of variables. A value keeps what it is, whatever it has in it but line feeds.
func envLines(values map[string]string) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := strings.NewReplacer("\n", "", "\r", "", "\x00", "").Replace(values[name])
		quote := "'"
		if strings.Contains(value, quote) {
			quote = `"`
		}
		if strings.ContainsAny(value, " \t#;'\"") {
			value = quote + value + quote
		}
		lines = append(lines, name+"="+value)
	}
	return lines
}

func (t *translation) rfc2136(c *imports.Challenge) error {
	section := maps.Clone(c.RFC2136)
	if c.TSIGKey != "" {
		file, err := t.secretFile(t.cert.Name, "tsig.key", []string{strings.TrimSpace(c.TSIGKey)})
		if err != nil {
			return err
		}
		section["tsig_key_file"] = file
	}
	t.solver(Solver{Name: t.cert.Name + "-dns", DNS01: map[string]any{"rfc2136": section}})
	return nil
}

// program makes the solver of a program that sets records.
func (t *translation) program(c *imports.Challenge) error {
	section := map[string]any{"command": c.Command}
	if err := vetted.Program(c.Command[0]); err != nil {
		t.wait("%s", err)
	}
	if len(c.Values) > 0 {
		file, err := t.secretFile(t.cert.Name, t.tree.Program+".env", envLines(c.Values))
		if err != nil {
			return err
		}
		section["env_file"] = file
	}
	t.solver(Solver{Name: t.cert.Name + "-dns", DNS01: map[string]any{"exec": section}})
	return nil
}

// targets finds where the certificate is installed: where the other client says so, the copies that it makes, the sites
// that serve it, and the programs that it runs after a renewal.
func (t *translation) targets() {
	switch {
	case t.l.Target.Kind != "" && !t.l.Target.Managed:
		t.cert.Install = []Install{{t.l.Target.Kind: t.l.Target.Settings}}
	case len(t.l.Copies) == 0:
		for _, s := range t.served() {
			t.install(Install{s.Kind: s.Settings})
		}
	}
	for _, c := range t.l.Copies {
		t.copies(c)
	}
	if len(t.cert.Install) == 0 {
		t.look("%s", cmp.Or(t.l.Unserved, "acmed found no server that serves it; let servers that read the files of "+t.tree.Program+" read those below the state directory"))
	}
	for _, h := range t.l.Hooks {
		if argv, ok := t.argv(h); ok && !slices.ContainsFunc(t.cert.Install, func(i Install) bool { return reloads(argv, i) }) {
			t.install(Install{"command": {"run": argv}})
		}
	}
}

func (t *translation) install(i Install) { t.cert.Install = append(t.cert.Install, i) }

// served are the web servers of this machine that serve the certificate, or names of it without files of their own.
func (t *translation) served() (list []Server) {
	leaf := t.l.Versions[len(t.l.Versions)-1].Leaf
	for _, s := range t.sitesOf(t.l.Target.Kind, nil) {
		mine := slices.ContainsFunc(s.Certificates, func(file string) bool { return isCertificate(file, certs.Fingerprint(leaf)) })
		mine = mine || t.l.Target.Managed && s.TLS && slices.ContainsFunc(t.names, func(n string) bool { _, ok := s.match(n); return ok })
		if mine && !slices.ContainsFunc(list, s.Server.same) {
			list = append(list, s.Server)
		}
	}
	return list
}

// isCertificate reports whether a file begins with the certificate of a fingerprint.
func isCertificate(path, fingerprint string) bool {
	content, err := installers.ReadRegular(path)
	if err != nil {
		return false
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return false
	}
	leaf, err := certs.ParseCertificate(block.Bytes)
	return err == nil && certs.Fingerprint(leaf) == fingerprint
}

// copies makes file targets, one for each directory. The last one reloads the server.
func (t *translation) copies(c imports.Copy) {
	byDir := map[string]map[string]any{}
	for key, path := range map[string]string{"cert": c.Cert, "chain": c.Chain, "fullchain": c.FullChain, "key": c.Key} {
		if path == "" {
			continue
		}
		dir := filepath.Dir(path)
		if byDir[dir] == nil {
			byDir[dir] = map[string]any{"dir": dir}
		}
		byDir[dir][key] = filepath.Base(path)
	}
	dirs := slices.Sorted(maps.Keys(byDir))
	for i, dir := range dirs {
		section := byDir[dir]
		if argv, ok := t.argv(c.Reload); ok && i == len(dirs)-1 {
			if unit := reloadedUnit(argv); unit != "" {
				section["unit"] = unit
			} else {
				section["reload"] = argv
			}
		}
		t.install(Install{"file": section})
	}
}

// argv makes a program with its arguments of a hook. What only a shell can do is left to one.
func (t *translation) argv(h imports.Hook) (argv []string, ok bool) {
	if h.Empty() {
		return nil, false
	}
	argv = h.Command(lookPath)
	if err := vetted.Program(argv[0]); err != nil {
		t.look("%s ran after a renewal: %s (not imported: %s)", t.tree.Program, h.Text, err)
		return nil, false
	}
	return argv, true
}

// lookPath finds a program where systemd and cron look for it; "" when there is none.
func lookPath(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() && !strings.Contains(name, "/") {
			return filepath.Join(dir, name)
		}
	}
	return ""
}

// reloadedUnit is the systemd unit that a command reloads and does nothing else to; "" for any other command.
func reloadedUnit(argv []string) string {
	unit := ""
	switch {
	case len(argv) == 3 && filepath.Base(argv[0]) == "systemctl" && argv[1] == "reload":
		unit = argv[2]
	case len(argv) == 3 && filepath.Base(argv[0]) == "service" && argv[2] == "reload":
		unit = argv[1]
	}
	if unit == "" || strings.HasPrefix(unit, "-") || strings.HasSuffix(unit, ".service") {
		return unit
	}
	return unit + ".service"
}

// reloads reports whether a command only reloads a server that the target reloads itself.
func reloads(argv []string, target Install) bool {
	unit := reloadedUnit(argv)
	kind := map[string]string{"nginx.service": Nginx, "apache2.service": Apache, "httpd.service": Apache}[unit]
	return target[kind] != nil || unit != "" && target["file"]["unit"] == unit
}
