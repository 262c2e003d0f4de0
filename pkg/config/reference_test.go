package config_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/pkg/config"
)

const configs = "../../configs"

// keys lists the key paths of every field below t, list elements as "[]".
func keys(t reflect.Type, path string, visit func(path string, t reflect.Type)) {
	switch {
	case t.Kind() == reflect.Pointer:
		keys(t.Elem(), path, visit)
	case t.Kind() == reflect.Slice:
		keys(t.Elem(), path+"[]", visit)
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if key := f.Tag.Get("mapstructure"); key != "" {
				keys(f.Type, path+"."+key, visit)
			} else if f.IsExported() {
				visit(path+"."+f.Name+" has no mapstructure tag", f.Type)
			}
		}
	default:
		visit(path, t)
	}
}

// written collects the key paths in a file, and those of them that have a comment.
func written(n *yaml.Node, path string, all, explained map[string]bool) {
	switch n.Kind {
	case yaml.DocumentNode:
		written(n.Content[0], path, all, explained)
	case yaml.SequenceNode:
		all[path+"[]"] = true
		for _, item := range n.Content {
			written(item, path+"[]", all, explained)
		}
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			at := path + "." + key.Value
			all[at] = true
			if key.HeadComment+key.LineComment+value.HeadComment+value.LineComment != "" {
				explained[at], explained[at+"[]"] = true, true
			}
			written(value, at, all, explained)
		}
	}
}

// TestReference: the reference loads, and shows every key there is.
func TestReference(t *testing.T) {
	dir := place(t, configs)
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	c, warnings, err := config.Load(filepath.Join(dir, "acmed.yaml"), config.WithoutFiles)
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	if len(c.Certificates) == 0 {
		t.Error("the reference has no certificate")
	}
	text, err := os.ReadFile(filepath.Join(configs, "acmed.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	all, explained := map[string]bool{}, map[string]bool{}
	written(&root, "", all, explained)
	keys(reflect.TypeFor[config.Config](), "", func(path string, _ reflect.Type) {
		plain := strings.TrimSuffix(path, "[]")
		if strings.HasPrefix(plain, ".solvers[].dns-account-01.") {
			return // the section has the keys of dns-01
		}
		if !all[path] && !all[plain] {
			t.Errorf("%s is missing", path)
		}
		if top := strings.Split(plain, "[]."); len(top) == 2 && top[0] == ".certificates" && all[".defaults."+top[1]] {
			return // explained under defaults
		}
		if !strings.HasSuffix(plain, ".name") && !explained[plain] {
			t.Errorf("%s has no comment", path)
		}
	})
}

// TestReferenceShowsDefaults: where the reference says "the default", it is.
func TestReferenceShowsDefaults(t *testing.T) {
	c, _, err := config.Load(filepath.Join(place(t, "testdata/good"), "empty.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Renewal{Before: 30 * 24 * time.Hour, Schedule: "@hourly", Splay: 30 * time.Minute, Concurrency: 8, Keep: 5}
	if c.Renewal != want || c.Log != (config.Log{Level: "info", Format: "console"}) || c.StateDir != "/var/lib/acmed" || c.Socket != "/run/acmed/acmed.sock" {
		t.Errorf("the defaults are %+v", c)
	}
}

func TestExamples(t *testing.T) {
	dir := place(t, filepath.Join(configs, "examples"))
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if _, warnings, err := config.Load(file, config.WithoutFiles); err != nil || len(warnings) > 0 {
			t.Error(warnings, err)
		}
	}
}

// TestSchema: every field has a type that can be read, and keys are ones that the decoder leaves alone.
func TestSchema(t *testing.T) {
	keys(reflect.TypeFor[config.Config](), "", func(path string, typ reflect.Type) {
		switch typ.Kind() {
		case reflect.String, reflect.Bool, reflect.Int, reflect.Uint16:
		default:
			if typ != reflect.TypeFor[time.Duration]() {
				t.Errorf("%s has the type %s, which cannot be configured", path, typ)
			}
		}
		if path != strings.ToLower(path) {
			t.Errorf("%s is not in lower case", path)
		}
	})
}

// TestFieldsAreDocumented: the types are the manual.
func TestFieldsAreDocumented(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		s, ok := n.(*ast.StructType)
		if !ok {
			return true
		}
		for _, f := range s.Fields.List {
			name := f.Names[0]
			if doc := f.Doc.Text(); name.IsExported() && (!strings.HasPrefix(doc, name.Name+" ") || !strings.HasSuffix(doc, ".\n")) {
				t.Errorf("%s: the comment is %q, want a sentence that begins with the name", name.Name, doc)
			}
		}
		return true
	})
}
