package daemon

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/notify"
)

// TestDigest: a weekly digest that was missed while acmed was not running comes once after the start, with the state of
// the certificate.
func TestDigest(t *testing.T) {
	posts := make(chan notify.Event, 10)
	office := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e notify.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		posts <- e
	}))
	t.Cleanup(office.Close)
	m := prepare(t)
	memory := filepath.Join(m.dir, "state", "notify.json")
	old := `{"version": 1, "notifiers": {"hook": {"digest_at": "2020-01-06T08:00:00Z"}}}`
	if err := os.WriteFile(memory, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	m.configure(`notify: [{ name: hook, on: [held], digest: weekly, webhook: { url: "` + office.URL + `" } }]`)
	begun := time.Now()
	m.start()
	select {
	case e := <-posts:
		if e.Kind != notify.Digest || len(e.Summary) != 1 || e.Summary[0].Certificate != "www" || e.Summary[0].State == "" {
			t.Errorf("got %+v", e)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("no digest came")
	}
	m.closeHub()
	if len(posts) > 0 {
		t.Errorf("a second post came: %+v", <-posts)
	}
	text, err := os.ReadFile(memory)
	if err != nil {
		t.Fatal(err)
	}
	var saved struct {
		Notifiers map[string]struct {
			DigestAt time.Time `json:"digest_at"`
		}
	}
	if err := json.Unmarshal(text, &saved); err != nil || saved.Notifiers["hook"].DigestAt.Before(begun.Add(-time.Second)) {
		t.Errorf("that it came is not remembered: %v\n%s", err, text)
	}
}
