package change

import "testing"

func TestSplice(t *testing.T) {
	for _, tt := range []struct {
		edits []Edit
		want  string
	}{
		{nil, "abcdef"},
		{[]Edit{{0, 0, "<"}, {6, 6, ">"}}, "<abcdef>"},
		{[]Edit{{4, 6, "X"}, {1, 2, ""}, {2, 2, "1"}, {2, 2, "2"}}, "a12cdX"},
	} {
		got, err := Splice([]byte("abcdef"), tt.edits)
		if err != nil || string(got) != tt.want {
			t.Errorf("Splice(%v) = %q, %v, want %q", tt.edits, got, err, tt.want)
		}
	}
	if _, err := Splice([]byte("abcdef"), []Edit{{0, 3, ""}, {2, 4, ""}}); err == nil {
		t.Error("overlapping edits were accepted")
	}
}
