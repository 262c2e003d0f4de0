package apache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/pkg/installers"
)

// facts are what Apache says about its configuration.
type facts struct {
	root     string // ServerRoot
	errorLog string // of the main server; "" when it is not a file
	pidFile  string
	defines  map[string]string
	modules  map[string]bool // by identifier, such as "ssl_module"
	main     *include        // the main configuration file
	groups   []*group        // in the order in which Apache looks through them
	vhosts   []*vhost        // in no particular order
}

// fresh is a copy without what the files told about the virtual hosts.
func (f *facts) fresh() *facts {
	copied := *f
	copied.groups, copied.vhosts = make([]*group, len(f.groups)), make([]*vhost, len(f.vhosts))
	known := make(map[*vhost]*vhost, len(f.vhosts))
	for i, v := range f.vhosts {
		copied.vhosts[i] = &vhost{file: v.file, line: v.line, server: v.server, listed: v.listed}
		copied.vhosts[i].addName(v.server)
		if v.listed {
			copied.vhosts[i].names = v.names
		}
		known[v] = copied.vhosts[i]
	}
	for i, g := range f.groups {
		copied.groups[i] = &group{host: g.host, port: g.port}
		for _, v := range g.vhosts {
			copied.groups[i].vhosts = append(copied.groups[i].vhosts, known[v])
		}
	}
	return &copied
}

// include is one reading of a configuration file.
type include struct {
	line     int // of the directive in the file that includes it
	path     string
	children []*include
}

// group is the virtual hosts that share an address and port.
type group struct {
	host   string // an IP address, or "*"
	port   int    // 0 for all ports
	vhosts []*vhost
}

// maxDump bounds the answer. Ten thousand virtual hosts with a handful of aliases need some megabytes.
const maxDump = 64 << 20

// ask lets Apache read its configuration and say what it found. Modules are loaded first as if the configuration did.
func (c *Config) ask(ctx context.Context, modules ...module) (*facts, error) {
	argv := c.settings().Argv("-t", "-D", "DUMP_INCLUDES", "-D", "DUMP_VHOSTS", "-D", "DUMP_RUN_CFG", "-D", "DUMP_MODULES")
	for _, m := range modules {
		argv = append(argv, "-C", fmt.Sprintf("LoadModule %s %q", m.name, m.file))
	}
	out, err := installers.Command{Argv: argv, Timeout: c.Timeout, MaxOutput: maxDump}.Run(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask Apache for its virtual hosts: %w", err)
	}
	f, err := parseDump(string(out))
	if err != nil {
		return nil, fmt.Errorf("ask Apache for its virtual hosts: %w", err)
	}
	return f, nil
}

// The lines of a dump. A virtual host is named by file and line, or by a description of the macro that made it.
var (
	includeLine = regexp.MustCompile(`^( +)\((\*|\d+)\) (.+)$`)
	groupLine   = regexp.MustCompile(`^(\S+) +is a NameVirtualHost$`)
	singleLine  = regexp.MustCompile(`^(\S+) +(.*?) \((.+):(\d+)\)$`)
	vhostLine   = regexp.MustCompile(`^ +port (?:\d+|\*) namevhost (.*?) \((.+):(\d+)\)$`)
	aliasLine   = regexp.MustCompile(`^ +(?:wild )?alias (.+)$`)
	settingLine = regexp.MustCompile(`^(ServerRoot|Main ErrorLog|PidFile|Define): (.*)$`)
	moduleLine  = regexp.MustCompile(`^ (\w+) \((?:static|shared)\)$`)
)

// dump is a dump that is being read.
type dump struct {
	f     *facts
	stack []*include // the include that was read last, and those around it
	known map[string]*vhost
	last  *vhost
}

func parseDump(text string) (*facts, error) {
	d := &dump{f: &facts{defines: map[string]string{}, modules: map[string]bool{}}, known: map[string]*vhost{}}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if err := d.line(line); err != nil {
			return nil, err
		}
	}
	if d.f.main == nil || d.f.root == "" || len(d.f.modules) == 0 {
		return nil, errors.New("the answer lists no files, no ServerRoot or no modules: it is not that of Apache 2.4")
	}
	return d.f, nil
}

func (d *dump) line(line string) error {
	if m := moduleLine.FindStringSubmatch(line); m != nil {
		d.f.modules[m[1]] = true
		return nil
	}
	if m := settingLine.FindStringSubmatch(line); m != nil {
		d.setting(m[1], m[2])
		return nil
	}
	if m := includeLine.FindStringSubmatch(line); m != nil {
		return d.include(m[1], m[2], m[3])
	}
	if m := groupLine.FindStringSubmatch(line); m != nil {
		return d.group(m[1])
	}
	if m := vhostLine.FindStringSubmatch(line); m != nil {
		if err := d.vhost(m[1], m[2], m[3]); err != nil {
			return err
		}
		d.last.listed = true
		return nil
	}
	if m := aliasLine.FindStringSubmatch(line); m != nil && d.last != nil {
		d.last.addName(m[1])
		return nil
	}
	if m := singleLine.FindStringSubmatch(line); m != nil {
		if err := d.group(m[1]); err != nil {
			return err
		}
		return d.vhost(m[2], m[3], m[4])
	}
	return nil
}

func (d *dump) setting(key, value string) {
	unquoted := strings.Trim(value, `"`)
	switch key {
	case "ServerRoot":
		d.f.root = unquoted
	case "Main ErrorLog":
		if strings.HasPrefix(unquoted, "/") {
			d.f.errorLog = unquoted
		}
	case "PidFile":
		d.f.pidFile = unquoted
	case "Define":
		name, v, _ := strings.Cut(value, "=")
		d.f.defines[name] = v
	}
}

// include reads one line of the tree of files, which is indented by two spaces for each level.
func (d *dump) include(indent, line, path string) error {
	n, err := strconv.Atoi(line)
	if err != nil {
		n = 0
	}
	inc := &include{line: n, path: path}
	depth := len(indent)/2 - 1
	switch {
	case depth == 0 && d.f.main == nil:
		d.f.main = inc
	case depth < 1 || depth > len(d.stack):
		return fmt.Errorf("cannot place the included file %q", path)
	default:
		parent := d.stack[depth-1]
		parent.children = append(parent.children, inc)
	}
	d.stack = append(d.stack[:depth], inc)
	return nil
}

func (d *dump) group(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("cannot read the address %q", address)
	}
	g := &group{host: host}
	if port != "*" {
		if g.port, err = strconv.Atoi(port); err != nil {
			return fmt.Errorf("cannot read the port of %q", address)
		}
	}
	d.f.groups = append(d.f.groups, g)
	return nil
}

func (d *dump) vhost(name, file, line string) error {
	if len(d.f.groups) == 0 {
		return fmt.Errorf("a virtual host %q without an address", name)
	}
	n, err := strconv.Atoi(line)
	if err != nil {
		return fmt.Errorf("cannot read the line of the virtual host %q", name)
	}
	key := file + ":" + line
	if d.known[key] == nil {
		d.known[key] = &vhost{file: file, line: n, server: strings.ToLower(name)}
		d.known[key].addName(name)
		d.f.vhosts = append(d.f.vhosts, d.known[key])
	}
	d.last = d.known[key]
	g := d.f.groups[len(d.f.groups)-1]
	if !slices.Contains(g.vhosts, d.last) {
		g.vhosts = append(g.vhosts, d.last)
	}
	return nil
}
