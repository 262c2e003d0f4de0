package manual

import (
	"fmt"
	"strings"
)

// reference makes the manual page of a configuration file out of the file that explains every setting: comments at the
// margin become text, each top-level key a section, and the rest stays as it is. What comes before the first key is the
// description.
func reference(name, version, text string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH \"%s\" \"5\" \"\" \"acmed %s\" \"acmed manual\"\n", strings.ToUpper(roff(name)), roff(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- configuration file\n.SH DESCRIPTION\n", roff(name))
	settings := false
	for chunk := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		comment, yaml := split(chunk)
		if key, _, found := strings.Cut(yaml, ":"); found && !strings.HasPrefix(key, " ") {
			if !settings {
				b.WriteString(".SH SETTINGS\n")
				settings = true
			}
			fmt.Fprintf(&b, ".SS %s\n", roff(key))
		}
		b.WriteString(paragraphs(comment))
		if yaml != "" {
			fmt.Fprintf(&b, ".PP\n.nf\n")
			for line := range strings.SplitSeq(yaml, "\n") {
				b.WriteString(roff(line) + "\n")
			}
			b.WriteString(".fi\n")
		} else {
			b.WriteString(".PP\n")
		}
	}
	b.WriteString(".SH SEE ALSO\n.BR acmed (1)\n")
	return []byte(b.String())
}

// split separates the comment at the margin from the YAML below it.
func split(chunk string) (comment, yaml string) {
	lines := strings.Split(chunk, "\n")
	if strings.HasPrefix(lines[0], "# yaml-language-server:") { // for editors
		lines = lines[1:]
	}
	n := 0
	for n < len(lines) && strings.HasPrefix(lines[n], "#") {
		lines[n] = strings.TrimPrefix(strings.TrimPrefix(lines[n], "#"), " ")
		n++
	}
	return strings.Join(lines[:n], "\n"), strings.Join(lines[n:], "\n")
}
