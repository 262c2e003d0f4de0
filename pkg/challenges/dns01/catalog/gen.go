//go:build ignore

// This program writes providers.jsonl from the sources of lego, whose directory is its argument. Names, addresses and
// variables come from each provider's TOML file; which variables are required comes from the calls of env.Get in the
// provider's constructor, because the TOML files do not say it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"log"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
	"github.com/pelletier/go-toml/v2"
)

// byHand are the requirements of constructors that read their variables in another way than by env.Get. Files below the
// home directory count only when the credential sets HOME: the worker has none. Azuredns, gcloud and route53 are not here,
// because the identity of the machine may be all they need.
var byHand = map[string][][][]string{
	"azure":    {{{"LEGO_AZURE_BYPASS_DEPRECATION"}}}, // refuses to work without it; azuredns is its successor
	"dnsimple": {{{"DNSIMPLE_OAUTH_TOKEN"}}},
	"edgedns": { // a section has variables of its own names
		{{"AKAMAI_HOST"}, {"AKAMAI_CLIENT_TOKEN"}, {"AKAMAI_CLIENT_SECRET"}, {"AKAMAI_ACCESS_TOKEN"}},
		{{"AKAMAI_EDGERC", "AKAMAI_EDGERC_SECTION", "HOME"}},
	},
	"gandiv5":     {{{"GANDIV5_PERSONAL_ACCESS_TOKEN"}}, {{"GANDIV5_API_KEY"}}},
	"hetzner":     {{{"HETZNER_API_TOKEN"}}, {{"HETZNER_API_KEY"}}},
	"hyperone":    {{{"HYPERONE_PASSPORT_LOCATION", "HOME"}}},
	"joker":       {{{"JOKER_USERNAME"}, {"JOKER_PASSWORD"}}, {{"JOKER_API_KEY"}}},
	"lightsail":   {{{"DNS_ZONE"}}},
	"oraclecloud": {{{"OCI_COMPARTMENT_OCID"}}},
	"ovh": { // the endpoint has a default
		{{"OVH_APPLICATION_KEY"}, {"OVH_APPLICATION_SECRET"}, {"OVH_CONSUMER_KEY"}},
		{{"OVH_CLIENT_ID"}, {"OVH_CLIENT_SECRET"}},
		{{"OVH_ACCESS_TOKEN"}},
	},
	"rfc2136": {{{"DNSUPDATE_NAMESERVER", "RFC2136_NAMESERVER"}}},
}

type metadata struct {
	Name, URL, Code string
	Aliases         []string
	Configuration   struct{ Credentials, Additional map[string]string }
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go run gen.go LEGO-DIRECTORY")
	}
	files, err := filepath.Glob(filepath.Join(os.Args[1], "providers", "dns", "*", "*.toml"))
	if err != nil || len(files) == 0 {
		log.Fatal("no provider found in ", os.Args[1])
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	var list []catalog.Provider
	for _, file := range files {
		p, err := provider(file)
		if err != nil {
			log.Fatalf("%s: %v", file, err)
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b catalog.Provider) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range list {
		if err := enc.Encode(p); err != nil {
			log.Fatal(err)
		}
	}
	if err := os.WriteFile("providers.jsonl", out.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
	log.Printf("%d providers, %d bytes", len(list), out.Len())
}

func provider(file string) (catalog.Provider, error) {
	var meta metadata
	text, err := os.ReadFile(file)
	if err != nil {
		return catalog.Provider{}, err
	}
	if err := toml.Unmarshal(text, &meta); err != nil {
		return catalog.Provider{}, err
	}
	required, ok := byHand[meta.Code]
	if !ok {
		if required, err = constructor(filepath.Dir(file)); err != nil {
			return catalog.Provider{}, err
		}
	}
	if required == nil {
		log.Printf("%s: nothing is required", meta.Code)
	}
	return catalog.Provider{
		Name: meta.Code, Title: meta.Name, URL: meta.URL, Aliases: meta.Aliases, Required: required,
		Closed: closed(filepath.Dir(file)), Credentials: variables(meta.Configuration.Credentials), Options: variables(meta.Configuration.Additional),
	}, nil
}

// closed reports whether the package only says that its provider is no more.
func closed(dir string) bool {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool {
		text, err := os.ReadFile(name)
		return err == nil && bytes.Contains(text, []byte("provider has shut down"))
	})
}

var defaultValue = regexp.MustCompile(`\(Default: *([^ )]+)\)`)

func variables(described map[string]string) []catalog.Variable {
	var list []catalog.Variable
	for _, name := range slices.Sorted(maps.Keys(described)) {
		v := catalog.Variable{Name: name}
		if m := defaultValue.FindStringSubmatch(described[name]); m != nil {
			v.Default = m[1]
		}
		list = append(list, v)
	}
	return list
}

// constructor reads the alternatives that NewDNSProvider of the package in dir accepts: each is a list of groups of
// which one variable must be set.
func constructor(dir string) ([][][]string, error) {
	fset := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	consts := map[string]ast.Expr{}
	var body *ast.BlockStmt
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.GenDecl:
				collect(consts, d)
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "NewDNSProvider" {
					body = d.Body
				}
			}
		}
	}
	if body == nil {
		return nil, fmt.Errorf("no NewDNSProvider")
	}
	return scope{consts}.alternatives(body), nil
}

func collect(consts map[string]ast.Expr, d *ast.GenDecl) {
	if d.Tok != token.CONST {
		return
	}
	for _, s := range d.Specs {
		if v, ok := s.(*ast.ValueSpec); ok && len(v.Values) == len(v.Names) {
			for i, n := range v.Names {
				consts[n.Name] = v.Values[i]
			}
		}
	}
}

type scope struct{ consts map[string]ast.Expr }

// alternatives takes the calls whose error is looked at on the main path, and those nested in the handling of such an error.
func (s scope) alternatives(body *ast.BlockStmt) [][][]string {
	var all [][][]string
	for _, stmt := range body.List {
		switch st := stmt.(type) {
		case *ast.AssignStmt:
			if groups := s.call(st); groups != nil {
				all = append(all, groups)
			}
		case *ast.IfStmt:
			if st.Init == nil {
				all = append(all, s.alternatives(st.Body)...)
			}
		}
	}
	return all
}

func (s scope) call(st *ast.AssignStmt) [][]string {
	if len(st.Rhs) != 1 || len(st.Lhs) != 2 {
		return nil
	}
	if id, ok := st.Lhs[1].(*ast.Ident); !ok || id.Name == "_" {
		return nil
	}
	call, ok := st.Rhs[0].(*ast.CallExpr)
	if !ok {
		return nil
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	if pkg, ok := sel.X.(*ast.Ident); !ok || pkg.Name != "env" {
		return nil
	}
	var groups [][]string
	for _, arg := range call.Args {
		switch sel.Sel.Name {
		case "Get":
			groups = append(groups, []string{s.text(arg)})
		case "GetWithFallback":
			var group []string
			for _, e := range arg.(*ast.CompositeLit).Elts {
				group = append(group, s.text(e))
			}
			groups = append(groups, group)
		}
	}
	return slices.DeleteFunc(groups, func(g []string) bool { return implied(g, groups) })
}

// implied reports whether a smaller group is within g, so that g asks for nothing more.
func implied(g []string, groups [][]string) bool {
	return slices.ContainsFunc(groups, func(other []string) bool {
		return len(other) > 0 && len(other) < len(g) && !slices.ContainsFunc(other, func(v string) bool { return !slices.Contains(g, v) })
	})
}

func (s scope) text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.StringVal(constant.MakeFromLiteral(e.Value, e.Kind, 0))
	case *ast.BinaryExpr:
		return s.text(e.X) + s.text(e.Y)
	case *ast.Ident:
		if v, ok := s.consts[e.Name]; ok {
			return s.text(v)
		}
	case *ast.CallExpr:
		if fun, ok := e.Fun.(*ast.Ident); ok && fun.Name == "altEnvName" {
			return strings.ReplaceAll(s.text(e.Args[0]), s.text(ast.NewIdent("envNamespace")), s.text(ast.NewIdent("altEnvNamespace")))
		}
	}
	log.Fatalf("cannot evaluate %T %v", e, e)
	return ""
}
