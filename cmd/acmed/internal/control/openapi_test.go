package control

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/internal/schema"
)

var update = flag.Bool("update", false, "write docs/openapi.yaml")

const described = "../../../../docs/openapi.yaml"

// summaries are what the requests do, in the words of the description.
func summaries() map[string]string {
	return map[string]string{
		"status": "Describe certificates", "renew": "Do what is due for certificates, or renew them", "install": "Install a certificate again, or remove it from its targets",
		"activate": "Activate the newest version of a certificate", "rollback": "Activate an earlier version of a certificate", "events": "Follow what happens",
		"history": "List the stored versions of a certificate", "chain": "Return the issuers of a certificate, for clients that pin them", "trust": "Compare chains with what clients trust",
		"preview": "Show what a renewal would do", "forget": "Delete a certificate that is not configured any more", "reload": "Read the configuration again",
		"account": "Show or change the account at a CA", "revoke": "Revoke a certificate", "doctor": "Diagnose why names fail validation", "notify-test": "Send a test to notifiers",
		"log": "Return what was done for a certificate", "fleet": "Show or change what the nodes of a fleet share", "staging": "Order from the staging directory and throw the certificate away",
	}
}

// TestOpenAPI: the description has each request of the server, with each field of its forms.
func TestOpenAPI(t *testing.T) {
	var routes []schema.Route
	for pattern, e := range NewServer(&fake{}, zap.NewNop()).routes {
		path := strings.TrimPrefix(pattern, "POST ")
		summary := summaries()[strings.TrimPrefix(path, "/v1/")]
		if summary == "" {
			t.Errorf("%s has no summary", path)
		}
		routes = append(routes, schema.Route{Path: path, Summary: summary, Request: e.request, Answer: e.answer})
	}
	slices.SortFunc(routes, func(a, b schema.Route) int { return strings.Compare(a.Path, b.Path) })
	want, err := schema.OpenAPI("../../../..", routes, reflect.TypeFor[Line]())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(described, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(described); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/openapi.yaml is not what the server does (%v); run make schema", err)
	}
}

// everything answers each request with forms that are filled as far as their types go.
type everything struct{ Backend }

func (everything) Status(context.Context, StatusRequest) (Status, error) {
	return filled[Status](), nil
}
func (everything) History(context.Context, VersionRequest) (History, error) {
	return filled[History](), nil
}
func (everything) Chain(context.Context, VersionRequest) (Chain, error) { return filled[Chain](), nil }
func (everything) Trust(context.Context, TrustRequest) (Trust, error)   { return filled[Trust](), nil }
func (everything) Preview(context.Context, PreviewRequest) (Preview, error) {
	return filled[Preview](), nil
}
func (everything) Account(context.Context, AccountRequest) (Account, error) {
	return filled[Account](), nil
}
func (everything) Revoke(context.Context, RevokeRequest) (Revocation, error) {
	return filled[Revocation](), nil
}
func (everything) Doctor(context.Context, DoctorRequest) (Diagnosis, error) {
	return filled[Diagnosis](), nil
}
func (everything) Renew(_ context.Context, _ RenewRequest, progress func(Progress)) (Report, error) {
	progress(filled[Progress]())
	return filled[Report](), nil
}

// filled is a value without an empty field: whatever JSON leaves out when it is empty is there.
func filled[T any]() T {
	var v T
	fill(reflect.ValueOf(&v).Elem(), 0)
	return v
}

func fill(v reflect.Value, depth int) {
	if depth > 12 {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), depth+1)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	}
}

// strict makes every object of a description refuse what it does not name, so that a field that is missing in it is found.
func strict(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["properties"]; ok && v["additionalProperties"] == nil {
			v["additionalProperties"] = false
		}
		for _, part := range v {
			strict(part)
		}
	case []any:
		for _, part := range v {
			strict(part)
		}
	}
}

// TestAnswersAreDescribed asks a real server on a real socket, and compares what comes over the wire with the description.
func TestAnswersAreDescribed(t *testing.T) {
	var document map[string]any
	data, err := os.ReadFile(described)
	if err == nil {
		err = yaml.Unmarshal(data, &document)
	}
	if err != nil {
		t.Fatal(err)
	}
	strict(document)
	if data, err = json.Marshal(document); err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("api.json", value); err != nil {
		t.Fatal(err)
	}
	path, _ := serve(t, everything{})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for verb, kind := range map[string]string{
		"status": "application~1json", "history": "application~1json", "chain": "application~1json", "trust": "application~1json", "preview": "application~1json",
		"account": "application~1json", "revoke": "application~1json", "doctor": "application~1json", "renew": "application~1x-ndjson",
	} {
		s, err := c.Compile("api.json#/paths/~1v1~1" + verb + "/post/responses/200/content/" + kind + "/schema")
		if err != nil {
			t.Fatal(verb, err)
		}
		resp, err := client.Post("http://acmed/v1/"+verb, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(verb, err)
		}
		if want := strings.ReplaceAll(kind, "~1", "/"); resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != want {
			t.Errorf("%s: %s, %s, want %s", verb, resp.Status, resp.Header.Get("Content-Type"), want)
		}
		lines := 0
		for dec := json.NewDecoder(resp.Body); dec.More(); lines++ {
			var line json.RawMessage
			if err := dec.Decode(&line); err != nil {
				t.Fatal(verb, err)
			}
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
			if err != nil {
				t.Fatal(verb, err)
			}
			if err := s.Validate(value); err != nil {
				t.Errorf("%s: %v", verb, err)
			}
		}
		if lines == 0 {
			t.Errorf("%s answers nothing", verb)
		}
		_ = resp.Body.Close()
	}
}
