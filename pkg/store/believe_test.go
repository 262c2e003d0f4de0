package store

import (
	"reflect"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/clock"
)

// fill sets every time in v, and makes something to hold one where there is none.
func fill(v reflect.Value, at time.Time) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(at))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), at)
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), at)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), at)
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		item := reflect.New(v.Type().Elem()).Elem()
		fill(item, at)
		v.SetMapIndex(reflect.ValueOf("x"), item)
	}
}

// times visits every time in v that is set.
func times(path string, v reflect.Value, visit func(string, time.Time)) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		if at := v.Interface().(time.Time); !at.IsZero() {
			visit(path, at)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			times(path+"."+v.Type().Field(i).Name, v.Field(i), visit)
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		times(path, v.Elem(), visit)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			times(path, v.Index(i), visit)
		}
	case v.Kind() == reflect.Map:
		for _, key := range v.MapKeys() {
			times(path, v.MapIndex(key), visit)
		}
	}
}

// TestBelieve: no time of a state, also one of a field that is yet to come, is waited for or counted when it was written by
// a clock that was a year ahead; those of the CA stay, and so does everything that this clock may have written.
func TestBelieve(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	theirs := map[string]bool{".RenewAt": true, ".ARI.Start": true, ".ARI.End": true}
	var st State
	fill(reflect.ValueOf(&st).Elem(), now.AddDate(1, 0, 0))
	if !st.Believe(now) || st.Believe(now) {
		t.Error("it does not say whether it changed anything")
	}
	times("", reflect.ValueOf(st), func(path string, at time.Time) {
		if !theirs[path] && at.After(now) && path != ".Held.Until" {
			t.Errorf("%s is %s", path, at)
		}
	})
	for _, ago := range []time.Duration{0, time.Minute, -clock.Slack, 400 * 24 * time.Hour} {
		fill(reflect.ValueOf(&st).Elem(), now.Add(-ago))
		if st.Believe(now) {
			t.Errorf("times %s ago are not believed", ago)
		}
	}
}

// TestBelieveNotice: a notice that was given while the clock was ahead keeps its length.
func TestBelieveNotice(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	future := now.AddDate(1, 0, 0)
	st := State{Held: &Held{Since: future, Until: future.Add(7 * 24 * time.Hour)}}
	st.Believe(now)
	if !st.Held.Since.Equal(now) || !st.Held.Until.Equal(now.Add(7*24*time.Hour)) {
		t.Errorf("%+v", st.Held)
	}
}
