package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// forbidden are words that acmed's texts do not use, with what they use instead. They are matched as whole words, in lower
// and upper case.
var forbidden = map[string]string{
	`nobody|somebody|everybody|anybody`:          "name the actor: the operator, another process, any user",
	`prove|proves|proved|proving`:                "validate a name, verify a target",
	`mend|mends|mended|mending`:                  "fix",
	`told|hears?`:                                "notified, reported",
	`taken away|take away|takes away|took away`:  "uninstall",
	`taken back|take back|takes back|puts? back`: "roll back, restore",
	`take over|takes over|taken over|takeover`:   "import, or: use the next issuer",
	`goes? live|went live|going live`:            "become active",
	`goes on|go on|going on`:                     "continue, keep",
	`by itself|by themselves`:                    "automatically",
	`of its own|of their own`:                    "a separate",
	`anew`:                                       "again, recreated",
	`strangers?`:                                 "unauthorized client, peer",
	`ladders?|rungs?`:                            "fallback order, solver",
	`rehearsals?|rehearse[sd]?`:                  "staging run, test",
	`gives? way`:                                 "be replaced",
	`looks? after|looked after`:                  "manage, monitor",
	`waits for you`:                              "needs action",
	`cannot be had`:                              "unavailable, cannot be obtained",
	`nevertheless`:                               "anyway",
	`own CA`:                                     "private CA",
	`mail address`:                               "email address",
	`believe[ds]?`:                               "confirm, rely on",
	`speaks? to|speaks? with`:                    "connect to",
	`colour|behaviour|serialise[ds]?|synchronise[ds]?|recognise[ds]?|authorisation`: "American spelling",
	`—`: "two sentences",
}

// code is a quoted name, or a verb of the API, either of which may be an old one.
var code = regexp.MustCompile("`[^`]*`|/v1/[a-z-]+|operationId: [a-z-]+")

// rule is a set of words and what is written instead.
type rule struct {
	word    *regexp.Regexp
	instead string
}

func glossary() []rule {
	var rules []rule
	for words, instead := range forbidden {
		expr := `(?i)\b(` + words + `)\b`
		if words == "—" {
			expr = words
		}
		rules = append(rules, rule{regexp.MustCompile(expr), instead})
	}
	return rules
}

// TestPlainEnglish keeps the words of the field in everything that operators read: guides, reference pages, the annotated
// configurations, the pages of the status server and the help of the commands.
func TestPlainEnglish(t *testing.T) {
	rules := glossary()
	for _, file := range texts(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			line = code.ReplaceAllString(line, "")
			for _, r := range rules {
				if word := r.word.FindString(line); word != "" {
					t.Errorf("%s:%d: %q: %s", file, i+1, word, r.instead)
				}
			}
		}
	}
}

// texts lists the files whose every line operators read.
func texts(t *testing.T) []string {
	t.Helper()
	list := []string{"../../README.md", "../../configs/acmed.yaml", "../../configs/installd.yaml"}
	for _, root := range []string{"../../docs", "../../configs/examples", "../../deploy"} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if ext := filepath.Ext(name); err == nil && !d.IsDir() && (ext == ".md" || ext == ".yaml") && filepath.Base(name) != "comparison.md" {
				list = append(list, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	pages, err := filepath.Glob("../../cmd/acmed/internal/web/templates/*.html")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	return append(list, pages...)
}
