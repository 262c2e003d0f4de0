package manual

import "testing"

func TestParagraphs(t *testing.T) {
	got := paragraphs("One\n.two\n\n  a 'list'\n\n  of \\ these\nthree-four")
	want := "One\n\\&.two\n.PP\n.PP\n.nf\n  a \\(aqlist\\(aq\n\n  of \\e these\n.fi\n.PP\nthree\\-four\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
