package setup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/config"
)

// Helper is the configuration of acmed-installd, beside that of the daemon: installd.yaml, and a file for each target.
type Helper struct {
	Path    string // of the main file
	dropins string // directory
	exists  bool
}

// HelperTarget is the file of one target; the keys are those of package config.
type HelperTarget struct {
	Name    string   `yaml:"name"`
	Names   []string `yaml:"names,flow"`
	Install Install  `yaml:"install"`
}

// Helper reads the helper's configuration. It is no error when there is none, and a [*config.Error] when it is broken.
func (m *Machine) Helper() (*Helper, error) {
	dir := filepath.Dir(m.Path)
	h := &Helper{Path: filepath.Join(dir, "installd.yaml"), dropins: filepath.Join(dir, "installd.d")}
	if _, err := os.Lstat(h.Path); errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	c, _, err := config.LoadHelper(h.Path)
	if err != nil {
		return nil, err
	}
	h.exists = true
	h.dropins, err = dropins(h.Path, c.Include, "installd.d/*.yaml")
	return h, err
}

// Dropin is the path of the file for a target.
func (h *Helper) Dropin(target string) string { return filepath.Join(h.dropins, target+".yaml") }

// Mine reports whether the target is configured in a file of its own that nobody edited.
func (h *Helper) Mine(target string) bool {
	text, err := vetted.ReadFile(h.Dropin(target), 0, maxFile)
	return err == nil && Sealed(text)
}

// Add adds the file of a target to a change, and the main file when there is none.
func (h *Helper) Add(c *Change, certificate string, t HelperTarget) error {
	if !h.exists {
		h.exists = true
		c.Dirs = append(c.Dirs, parents(h.dropins, 0o755)...)
		c.Files = append(c.Files, File{Path: h.Path, Content: []byte(helperMain)})
	}
	text, err := sealed(nil, map[string]any{"targets": []HelperTarget{t}})
	if err != nil {
		return err
	}
	c.Files = append(c.Files, File{Path: h.Dropin(t.Name), Content: text, Certificate: certificate})
	return nil
}

// helperMain is a new main file.
const helperMain = `# The configuration of acmed-installd. Every setting is explained in /usr/share/doc/acmed/installd.yaml;
# "acmed installd --check" says everything that is wrong with it.
include: installd.d/*.yaml
`
