package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/config"
)

// Machine is what this machine's configuration already says.
type Machine struct {
	Path     string         // of the main file
	Config   *config.Config // nil when there is no main file yet
	Warnings []config.Warning
	dropins  string // directory
}

// Open undoes what a killed command left in the configuration at path, and reads it. A missing one is no error, and a
// broken one a [*config.Error].
func Open(ctx context.Context, path string) (*Machine, error) {
	path, err := filepath.Abs(path)
	if err == nil {
		err = Recover(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	m := &Machine{Path: path, dropins: filepath.Join(filepath.Dir(path), "conf.d")}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if m.Config, m.Warnings, err = config.Load(path); err != nil {
		return nil, err
	}
	m.dropins, err = dropins(path, m.Config.Include, "conf.d/*.yaml")
	if err != nil {
		return nil, err
	}
	return m, nil
}

// dropins finds the directory of further files among the patterns in the main file.
func dropins(main string, include []string, usual string) (string, error) {
	for _, pattern := range include {
		if dir, file := filepath.Split(pattern); file == "*.yaml" {
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(filepath.Dir(main), dir)
			}
			return filepath.Clean(dir), nil
		}
	}
	return "", &config.Error{Problems: []config.Problem{{
		File: main, Path: "include", Message: "no further files are read, so there is no place for new ones; add the line: include: " + usual,
	}}}
}

// Dropin is the path of the file for a certificate or a CA.
func (m *Machine) Dropin(name string) string { return filepath.Join(m.dropins, name+".yaml") }

// Covering returns the certificate that has the name, or nil.
func (m *Machine) Covering(name string) *config.Certificate {
	if m.Config == nil {
		return nil
	}
	i := slices.IndexFunc(m.Config.Certificates, func(c config.Certificate) bool {
		spec := m.Config.Spec(&c)
		return slices.Contains(spec.Names(), name)
	})
	if i < 0 {
		return nil
	}
	return &m.Config.Certificates[i]
}

// Mine reports whether the certificate is configured in a drop-in file of its own that nobody edited.
func (m *Machine) Mine(certificate string) bool {
	text, err := vetted.ReadFile(m.Dropin(certificate), 0, maxFile)
	return err == nil && Sealed(text)
}

// written reads the file that an earlier command wrote for a certificate and that nobody edited since; nil when there is
// none.
func (m *Machine) written(certificate string) (*Dropin, error) {
	text, err := vetted.ReadFile(m.Dropin(certificate), 0, maxFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !Sealed(text) {
		return nil, nil
	}
	d := &Dropin{}
	if err == nil {
		err = yaml.Unmarshal(text, d)
	}
	if err != nil || len(d.Certificates) != 1 || d.Certificates[0].Name != certificate {
		return nil, err
	}
	return d, nil
}

// clone is a deep copy.
func (d *Dropin) clone() *Dropin {
	c := &Dropin{Notes: d.Notes}
	if text, err := yaml.Marshal(d); err == nil {
		_ = yaml.Unmarshal(text, c) // its own output
	}
	return c
}

// stateDir is the state directory of the configuration; main's where there is none yet.
func (m *Machine) stateDir(main Main) string {
	if m.Config != nil {
		return m.Config.StateDir
	}
	return cmp.Or(main.StateDir, config.DefaultStateDir)
}

// secretsOwner is who reads the credentials: the owner of the state directory, and without one whoever makes it now.
func (m *Machine) secretsOwner(main Main) (uid int) {
	uid, err := owner(m.stateDir(main))
	if err != nil {
		return os.Geteuid()
	}
	return uid
}

// Begin makes the change that a new configuration starts with: the main file, unless there is one, and the directories.
func (m *Machine) Begin(main Main) (*Change, error) {
	c := &Change{Dirs: parents(m.dropins, 0o755), journal: journalDir(m.Path)}
	state := m.stateDir(main)
	c.Dirs = append(c.Dirs, parents(filepath.Dir(state), 0o755)...)
	c.Dirs = append(c.Dirs, Dir{state, 0o750})
	if m.Config != nil {
		return c, nil
	}
	main.Include = "conf.d/*.yaml"
	text, err := main.Text()
	c.Files = append(c.Files, File{Path: m.Path, Content: text})
	return c, err
}

// parents lists a directory and those above it that are missing, the outermost first.
func parents(path string, mode fs.FileMode) []Dir {
	var list []Dir
	for dir := path; len(dir) > 1; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil {
			break
		}
		list = append(list, Dir{dir, mode})
	}
	slices.Reverse(list)
	return list
}

// Add adds the file of one certificate to a change.
func (m *Machine) Add(c *Change, name string, d *Dropin) error {
	text, err := d.Text()
	if err != nil {
		return err
	}
	c.Files = append(c.Files, File{Path: m.Dropin(name), Content: text, Certificate: name})
	return nil
}

// CA returns the name of the issuer with this directory. Unless there is one, the change gets a file for it: with the
// roots in caFile it is a private CA.
func (m *Machine) CA(c *Change, directory, caFile string) (string, error) {
	if name := m.issuer(directory); name != "" {
		return name, nil
	}
	u, err := url.Parse(directory)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return "", fmt.Errorf("%q is not the https URL of an ACME directory", directory)
	}
	if caFile != "" {
		if caFile, err = filepath.Abs(caFile); err != nil {
			return "", err
		}
	}
	name := "ca-" + strings.Map(wordRune, strings.ToLower(u.Hostname()))
	d := &Dropin{Issuers: []Issuer{{Name: name, Directory: directory, CAFile: caFile, Private: caFile != ""}}}
	text, err := d.Text()
	if err != nil {
		return "", err
	}
	file := File{Path: m.Dropin(name), Content: text}
	if !slices.ContainsFunc(c.Files, func(f File) bool { return f.Path == file.Path }) {
		c.Files = append(c.Files, file)
	}
	return name, nil
}

// issuer finds the issuer with a directory, configured or built in.
func (m *Machine) issuer(directory string) string {
	c := m.Config
	if c == nil {
		c = &config.Config{}
	}
	for _, name := range c.IssuerNames() {
		if is, ok := c.Issuer(name); ok && is.Directory == directory {
			return name
		}
	}
	return ""
}

// wordRune keeps what the name of an issuer may have.
func wordRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
		return r
	}
	return '-'
}
