package catalog

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// List prints one line per provider for people: its name and title.
func List(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for p := range All() {
		note := ""
		switch {
		case p.Closed:
			note = " (has shut down)"
		case p.Name == "manual":
			note = " (cannot run unattended)"
		}
		if _, err := fmt.Fprintf(t, "%s\t%s%s\n", p.Name, p.Title, note); err != nil {
			return err
		}
	}
	return t.Flush()
}

// Describe prints the variables of one provider for people. Its error is that of [Lookup].
func Describe(w io.Writer, name string) error {
	p, err := Lookup(name)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", p.Name, p.Title)
	if len(p.Aliases) > 0 {
		fmt.Fprintf(&b, "also called %s\n", strings.Join(p.Aliases, ", "))
	}
	required(&b, p.Required)
	section(&b, "Credentials and places", p.Credentials)
	section(&b, "Options", p.Options)
	if len(p.Credentials)+len(p.Required) > 0 {
		b.WriteString("\nNAME_FILE can hold the path of a file with the value of NAME, unless a vendor's library reads NAME.\n" +
			"Options about propagation and polling have no effect: acmed waits by the settings of its solver.\n")
	}
	fmt.Fprintf(&b, "\nMeaning of the variables: %s\n", p.Help())
	_, err = io.WriteString(w, b.String())
	return err
}

func required(b *strings.Builder, ways [][][]string) {
	switch len(ways) {
	case 0:
		b.WriteString("\nNo variable is required in every case.\n")
	case 1:
		b.WriteString("\nRequired\n")
	default:
		b.WriteString("\nRequired, one line of these\n")
	}
	for _, way := range ways {
		var groups []string
		for _, group := range way {
			text := group[0]
			if len(group) > 1 {
				text += " (or " + strings.Join(group[1:], ", ") + ")"
			}
			groups = append(groups, text)
		}
		fmt.Fprintf(b, "  %s\n", strings.Join(groups, " and "))
	}
}

func section(b *strings.Builder, title string, variables []Variable) {
	if len(variables) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, v := range variables {
		fmt.Fprintf(b, "  %s", v.Name)
		if v.Default != "" {
			fmt.Fprintf(b, "  (default %s)", v.Default)
		}
		b.WriteString("\n")
	}
}
