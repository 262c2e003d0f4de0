package dns01

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/internal/vetted"
)

// redactor replaces what is secret in the output of a child: every value of its credential, also in the forms in which it
// appears in addresses and headers, and the content of files that variables named *_FILE point to.
type redactor struct{ *strings.Replacer }

// minSecret is the shortest value that is replaced. Shorter ones, such as "1" or "yes", are no secrets, and replacing
// them would make the text unreadable.
const minSecret = 4

func newRedactor(env map[string]string) redactor {
	var secrets []string
	for name, value := range env {
		secrets = append(secrets, value)
		if strings.HasSuffix(name, "_FILE") {
			if text, err := vetted.ReadFile(value, 0, maxSecretFile); err == nil {
				secrets = append(secrets, strings.Split(string([]byte(text)), "\n")...)
			}
		}
	}
	var forms []string
	for _, s := range secrets {
		if s = strings.TrimSpace(s); len(s) >= minSecret {
			forms = append(forms, s, url.QueryEscape(s), url.PathEscape(s), inJSON(s), base64.StdEncoding.EncodeToString([]byte(s)))
		}
	}
	slices.SortFunc(forms, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	var pairs []string
	for _, f := range slices.Compact(forms) { // longest first: one secret may contain another
		pairs = append(pairs, f, "<redacted>")
	}
	return redactor{strings.NewReplacer(pairs...)}
}

// inJSON is a secret within a line of JSON.
func inJSON(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		return s
	}
	return string(text[1 : len(text)-1])
}

// maxText is how much of a child's text gets into an error.
const maxText = 2 << 10

func (r redactor) clean(said string) string { return text.Line(r.Replace(said), maxText) }

// tail keeps the end of what is written to it. It is safe for concurrent use.
type tail struct {
	mu    sync.Mutex
	text  []byte
	total int
	limit int    // of total; 0: none
	over  func() // called once, when there is more than limit
}

const maxTail = 4 << 10

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.total
	t.total += len(p)
	t.text = append(t.text, p[max(0, len(p)-maxTail):]...)
	if cut := len(t.text) - maxTail; cut > 0 {
		t.text = append(t.text[:0], t.text[cut:]...)
	}
	if t.limit > 0 && t.total > t.limit && before <= t.limit {
		t.over()
	}
	return len(p), nil
}

// quote returns the text for the end of an error, or nothing.
func (t *tail) quote(r redactor) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := string(t.text)
	if t.total > len(t.text) { // the first word may be the end of a secret that was cut
		_, text, _ = strings.Cut(text, "\n")
	}
	if text = r.clean(text); text == "" {
		return ""
	}
	return "; it printed: " + text
}
