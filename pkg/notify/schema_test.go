package notify_test

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/notify"
)

// TestSchema: testdata/event.json is the JSON form of an event that has everything. Within a version of the schema lines
// are added to it, never changed or removed.
func TestSchema(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	e := notify.Event{
		Schema: notify.Schema, ID: "QWERTY", Kind: notify.Failed, Time: at, Host: "web1.example.com", Certificate: "www",
		Names: []string{"example.com", "www.example.com"}, Version: "20261101-120000-ab12", Target: "nginx", NotAfter: at.AddDate(0, 0, 70),
		RetryAt: at.Add(time.Hour), Clients: []string{"till-2019"}, ActiveAt: at.AddDate(0, 0, 3), Chain: "-----BEGIN CERTIFICATE-----\n",
		ChainFile: "/var/lib/acmed/certs/www/chain.pem", Pins: []string{"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}, Recovers: notify.InstallFailed, Message: "a message", Error: "an error",
		Code: advice.PortClosed,
		Summary: []notify.State{
			{Certificate: "mail", State: "failing", Attention: true, NotAfter: at.AddDate(0, 0, 24), Error: "connection refused"},
		},
	}
	for _, v := range []reflect.Value{reflect.ValueOf(e), reflect.ValueOf(e.Summary[0])} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s.%s is not in the example", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
	got, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/event.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("the form of events has changed (-file +now):\n%s", diff)
	}
	var again notify.Event
	if err := json.Unmarshal(want, &again); err != nil || !cmp.Equal(again, e) {
		t.Errorf("it reads as %+v: %v", again, err)
	}
}
