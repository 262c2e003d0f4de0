package schema

import (
	"bytes"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Route is one request of the API. Without an answer it streams lines.
type Route struct {
	Path            string
	Summary         string
	Request, Answer reflect.Type
}

// OpenAPI describes routes, which answer with the form of errors when they fail, as OpenAPI 3.1 in YAML.
func OpenAPI(source string, routes []Route, line reflect.Type) ([]byte, error) {
	g := generator{source: source, refs: "#/components/schemas/", tag: "json", defs: object{}, comments: map[string]map[string]string{}}
	streamed, err := g.of(line)
	if err != nil {
		return nil, err
	}
	refused := object{"description": "The request failed: the line has an error, with a code.", "content": object{"application/json": object{"schema": streamed}}}
	paths := object{}
	for _, r := range routes {
		request, err := g.of(r.Request)
		if err != nil {
			return nil, err
		}
		body := object{"application/x-ndjson": object{"schema": streamed}}
		if r.Answer != nil {
			answer, err := g.of(r.Answer)
			if err != nil {
				return nil, err
			}
			body = object{"application/json": object{"schema": answer}}
		}
		paths[r.Path] = object{"post": object{
			"operationId": strings.TrimPrefix(r.Path, "/v1/"), "summary": r.Summary,
			"requestBody": object{"content": object{"application/json": object{"schema": request}}},
			"responses":   object{"200": object{"description": "Done.", "content": body}, "default": refused},
		}}
	}
	var b bytes.Buffer
	b.WriteString("# Made of the types and handlers of the control socket by \"make schema\". docs/CONTROL.md explains it.\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	err = enc.Encode(object{
		"openapi": "3.1.0",
		"info": object{"title": "acmed's control socket", "version": "1", "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "HTTP/1.1 with JSON over the unix socket /run/acmed/acmed.sock. Within version 1 fields are added, never changed or removed. Unknown fields in a request are refused."},
		"servers": []object{{"url": "http://acmed", "description": "over the unix socket; the name does not matter"}},
		"paths":   paths, "components": object{"schemas": g.defs},
	})
	return b.Bytes(), err
}
