package schema

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

const root = "../.."

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	files, err := Files(root)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(files[name]))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, value); err != nil {
		t.Fatal(err)
	}
	return c.MustCompile(name)
}

// valid checks a text in YAML, which becomes JSON as an editor reads it.
func valid(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if value, err = jsonschema.UnmarshalJSON(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

var block = regexp.MustCompile("(?ms)^```yaml\n(# /etc/acmed/[^\n]*\n.*?)^```$")

// TestExamples: every example and every configuration in a guide keeps to the schemas.
func TestExamples(t *testing.T) {
	daemon, helper := compile(t, "acmed.schema.json"), compile(t, "installd.schema.json")
	var files []string
	for _, pattern := range []string{"configs/*.yaml", "configs/examples/*.yaml", "deploy/container/acmed.yaml", "README.md", "docs/*.md", "docs/guides/*.md", "docs/errors/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		files = append(files, found...)
	}
	var checked int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts := []string{string(data)}
		if filepath.Ext(file) == ".md" {
			texts = nil
			for _, match := range block.FindAllStringSubmatch(string(data), -1) {
				texts = append(texts, match[1])
			}
		}
		for _, text := range texts {
			s := daemon
			if first, _, _ := strings.Cut(text, "\n"); strings.Contains(first, "installd") {
				s = helper
			}
			// The guide about fleets shows what a misspelled key does.
			if err := valid(t, s, text); (err != nil) != strings.Contains(text, "naems:") {
				t.Errorf("%s: %v\n%s", file, err, text)
			}
			checked++
		}
	}
	if checked < 30 {
		t.Errorf("only %d configurations were found", checked)
	}
}

func TestRefuses(t *testing.T) {
	s := compile(t, "acmed.schema.json")
	for text, where := range map[string]string{
		"emial: ops@example.com":  "emial",
		"renewal: { before: 30 }": "before", "renewal: { before: soon }": "before", "preflight: maybe": "preflight", "agree_tos: \"yes\"": "agree_tos",
		"certificates: [ { names: [example.com] } ]":                                    "name",
		"certificates: [ { name: www, install: [ { nginx: {}, apache: {} } ] } ]":       "install",
		"certificates: [ { name: www, install: [ { file: { folder: /etc } } ] } ]":      "folder",
		"certificates: [ { name: www, key_type: [ec256, dsa] } ]":                       "key_type",
		"solvers: [ { name: x, http-01: { listen: 80 } } ]":                             "listen",
		"notify: [ { name: ops, on: [everything], url_file: /etc/acmed/secrets/url } ]": "on",
	} {
		if err := valid(t, s, text); err == nil || !strings.Contains(err.Error(), where) {
			t.Errorf("%s: %v, want an error about %q", text, err, where)
		}
	}
}
