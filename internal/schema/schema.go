// Package schema writes the JSON schemas of the configuration files, which editors use to complete and check them. They are made
// of the Go types of package config and of their comments. "make install" ships them; acmed itself does not know them, and
// judges a configuration more strictly than a schema can.
package schema

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/notify"
)

const module = "github.com/acmed/acmed/"

// Files are the schemas by the names of their files. The source is the root of the repository, for the comments.
func Files(source string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, t := range map[string]reflect.Type{
		"acmed.schema.json": reflect.TypeFor[config.Config](), "installd.schema.json": reflect.TypeFor[config.Helper](),
	} {
		g := generator{source: source, refs: "#/$defs/", tag: "mapstructure", defs: object{}, comments: map[string]map[string]string{}}
		root, err := g.structure(t)
		if err != nil {
			return nil, err
		}
		root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		root["title"] = strings.Replace(name, ".schema.json", ".yaml", 1)
		root["$defs"] = g.defs
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", " ")
		if err := enc.Encode(root); err != nil {
			return nil, err
		}
		files[name] = b.Bytes()
	}
	return files, nil
}

type object = map[string]any

type generator struct {
	source   string
	refs     string // before the name of a definition
	tag      string // of fields: mapstructure, or json
	defs     object
	comments map[string]map[string]string // of types and of their fields, by package
}

// words are the values of settings that take a few words only, by type and key.
func words() map[string]any {
	preflight := []string{config.PreflightAdvisory, config.PreflightEnforce, config.PreflightOff}
	return map[string]any{
		"Config.preflight": preflight, "Issuer.preflight": preflight,
		"Log.level": []string{"debug", "info", "warn", "error"}, "Log.format": []string{"console", "json"},
		"EAB.algorithm": []string{"HS256", "HS384", "HS512"}, "Notifier.digest": []string{"daily", "weekly"}, "Notifier.on": notify.Kinds(),
		"EmailConfig.tls": []string{"starttls", "implicit", "none"}, "TrustStore.client": []string{"openssl", "gnutls", "mbedtls", "java", "python", "system"},
	}
}

// of is the schema of a value.
func (g *generator) of(t reflect.Type) (object, error) {
	if special := g.special(t); special != nil {
		return special, nil
	}
	if simple := simple(t.Kind()); simple != nil {
		return simple, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		section, err := g.of(t.Elem())
		if g.tag == "json" {
			return section, err
		}
		// It may be empty.
		return object{"anyOf": []object{section, {"type": "null"}}}, err
	case reflect.Map:
		values, err := g.of(t.Elem())
		return object{"type": "object", "additionalProperties": values}, err
	case reflect.Slice:
		items, err := g.of(t.Elem())
		return object{"type": "array", "items": items}, err
	case reflect.Struct:
		return g.named(t)
	}
	return nil, fmt.Errorf("%s cannot be configured", t)
}

// named makes the schema of a section once, and returns a reference to it.
func (g *generator) named(t reflect.Type) (object, error) {
	name := filepath.Base(t.PkgPath()) + "." + t.Name()
	if g.defs[name] == nil {
		g.defs[name] = object{} // a type that has itself would end here
		made, err := g.structure(t)
		if err != nil {
			return nil, err
		}
		g.defs[name] = made
	}
	return object{"$ref": g.refs + name}, nil
}

// simple is the schema of a kind without parts, or nil.
func simple(k reflect.Kind) object {
	switch k {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint16:
		return object{"type": "integer", "minimum": 1, "maximum": 65535}
	case reflect.Float64:
		return object{"type": "number"}
	}
	return nil
}

// special is the schema of a type that is written in a form of its own, or nil.
func (g *generator) special(t reflect.Type) object {
	switch {
	case g.tag == "json" && t == reflect.TypeFor[time.Duration]():
		return object{"type": "integer", "format": "int64"}
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return object{"type": "string", "format": "byte"}
	case t == reflect.TypeFor[time.Duration]():
		return object{"type": "string", "pattern": "^([0-9]+d)?([0-9]+(h|m|s|ms|us|ns))*$", "minLength": 2}
	case g.tag == "json" && t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return object{"type": "string"}
	case t == reflect.TypeFor[config.Words]():
		text := object{"type": "string"}
		return object{"oneOf": []object{text, {"type": "array", "items": text}}}
	case t == reflect.TypeFor[config.KeyTypes]():
		word := object{"enum": certs.KeyTypes()}
		return object{"oneOf": []object{word, {"type": "array", "items": word, "minItems": 1, "maxItems": 2}}}
	}
	return nil
}

// structure is the schema of a section. One whose settings are all sections has exactly one of them.
func (g *generator) structure(t reflect.Type) (object, error) {
	texts, err := g.texts(t.PkgPath())
	if err != nil {
		return nil, err
	}
	properties, choice, always := object{}, g.tag != "json", []string{}
	made := object{"type": "object", "properties": properties, "description": texts[t.Name()]}
	for _, f := range reflect.VisibleFields(t) {
		key, options, _ := strings.Cut(f.Tag.Get(g.tag), ",")
		if key == "" || key == "-" {
			continue
		}
		if !strings.Contains(options, "omit") {
			always = append(always, key)
		}
		value, err := g.of(f.Type)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		choose(value, words()[t.Name()+"."+key])
		describe(value, texts[t.Name()+"."+f.Name], f.Name)
		properties[key] = value
		choice = choice && f.Type.Kind() == reflect.Pointer
		if key == "name" && t.PkgPath() == module+"pkg/config" {
			made["required"] = []string{key}
		}
	}
	g.close(made, always, choice)
	return made, nil
}

// close says which keys a section always has, and that there are no others.
func (g *generator) close(made object, always []string, choice bool) {
	switch {
	case g.tag != "json":
		made["additionalProperties"] = false
	case len(always) > 0:
		made["required"] = always
	}
	if choice {
		made["minProperties"], made["maxProperties"] = 1, 1
	}
}

// describe adds the comment of a field, without its name.
func describe(value object, comment, field string) {
	if comment != "" {
		value["description"] = strings.TrimPrefix(comment, field+" ")
	}
}

// choose restricts a value, or the values of a list, to some words; nil allows all.
func choose(value object, list any) {
	if list == nil {
		return
	}
	if items, ok := value["items"].(object); ok {
		value = items
	}
	value["enum"] = list
}

// texts are the comments of a package's types and of their fields.
func (g *generator) texts(pkg string) (map[string]string, error) {
	if known := g.comments[pkg]; known != nil {
		return known, nil
	}
	files, err := filepath.Glob(filepath.Join(g.source, strings.TrimPrefix(pkg, module), "*.go"))
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, data, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok || decl.Tok != token.TYPE {
				return true
			}
			for _, spec := range decl.Specs {
				collect(spec.(*ast.TypeSpec), decl.Doc, found)
			}
			return false
		})
	}
	g.comments[pkg] = found
	return found, nil
}

func collect(spec *ast.TypeSpec, doc *ast.CommentGroup, into map[string]string) {
	s, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	into[spec.Name.Name] = plain(doc)
	for _, f := range s.Fields.List {
		for _, name := range f.Names {
			if text := plain(f.Doc); text != "" {
				into[spec.Name.Name+"."+name.Name] = text
			} else {
				into[spec.Name.Name+"."+name.Name] = plain(f.Comment)
			}
		}
	}
}

// plain is a comment as text, each paragraph on one line.
func plain(group *ast.CommentGroup) string {
	printer := comment.Printer{TextWidth: -1}
	return strings.TrimSpace(string(printer.Text(new(comment.Parser).Parse(group.Text()))))
}
