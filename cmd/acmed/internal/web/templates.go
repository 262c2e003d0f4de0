package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"strings"

	"github.com/acmed/acmed/internal/text"
)

//go:embed templates
var files embed.FS

// parseTemplates also returns the Content-Security-Policy that goes with them: nothing is loaded, nothing runs, and the
// one style sheet is known by its hash.
func parseTemplates() (pages *template.Template, policy string) {
	style, err := files.ReadFile("templates/style.css")
	if err != nil {
		panic(err) // it is part of the program
	}
	sum := sha256.Sum256(style)
	pages = template.Must(template.New("").Funcs(template.FuncMap{
		"style": func() template.CSS { return template.CSS(style) }, //nolint:gosec // acmed's own
		"stamp": stamp, "date": date, "relative": relative, "visible": text.Lines, "label": label, "number": number,
		"plural": plural, "because": because,
	}).ParseFS(files, "templates/*.html"))
	return pages, strings.Join([]string{
		"default-src 'none'", "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		"base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'",
	}, "; ")
}
