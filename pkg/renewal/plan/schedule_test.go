package plan

import (
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

func berlin(t *testing.T) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// TestScheduleSummerTime: a time of day comes once on the day without it and on the day that has it twice; what goes by
// the hour goes on by the hour.
func TestScheduleSummerTime(t *testing.T) {
	loc := berlin(t)
	gap, repeat := time.Date(2026, 3, 29, 0, 0, 0, 0, loc), time.Date(2026, 10, 25, 0, 0, 0, 0, loc)
	for _, c := range []struct {
		name, expr string
		day        time.Time
		want       []string // in UTC
	}{
		{"left out", "30 2 * * *", gap, []string{"01:00"}},
		{"left out twice, once at its end", "0,30 2 * * *", gap, []string{"01:00"}},
		{"after the gap", "30 3 * * *", gap, []string{"01:30"}},
		{"shown twice", "30 2 * * *", repeat, []string{"00:30"}},
		{"before and after what is shown twice", "0 1,3 * * *", repeat, []string{"23:00", "02:00"}},
		{"every six hours", "0 */6 * * *", repeat, []string{"22:00", "05:00", "11:00", "17:00"}},
		{"an ordinary day", "30 2 * * *", repeat.AddDate(0, 0, 1), []string{"01:30"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			schedule, err := ParseSchedule(c.expr)
			if err != nil {
				t.Fatal(err)
			}
			end := c.day.AddDate(0, 0, 1)
			var got []string
			for at := schedule.Next(c.day.Add(-time.Second)); at.Before(end); at = schedule.Next(at) {
				got = append(got, at.UTC().Format("15:04"))
			}
			if len(got) != len(c.want) {
				t.Fatalf("runs at %s, want %s", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("runs at %s, want %s", got, c.want)
				}
			}
			for at := c.day; at.Before(end); at = at.Add(7 * time.Minute) {
				if next := schedule.Next(at); !next.After(at) {
					t.Fatalf("after %s comes %s", at, next)
				}
			}
		})
	}
	for day, want := range map[time.Time]int{gap: 23, repeat: 25} {
		schedule, err := ParseSchedule("@hourly")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for at := schedule.Next(day.Add(-time.Second)); at.Before(day.AddDate(0, 0, 1)); at = schedule.Next(at) {
			n++
		}
		if n != want {
			t.Errorf("%s: %d hourly runs, want %d", day, n, want)
		}
	}
}

// TestWindowSummerTime: a maintenance window opens once and for its whole length on both days.
func TestWindowSummerTime(t *testing.T) {
	loc := berlin(t)
	w := &certs.Maintenance{Schedule: "30 2 * * *", Length: 30 * time.Minute}
	for _, c := range []struct{ day, opens time.Time }{
		{time.Date(2026, 3, 29, 0, 0, 0, 0, loc), time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)},
		{time.Date(2026, 10, 25, 0, 0, 0, 0, loc), time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)},
	} {
		for at := c.day; at.Before(c.day.AddDate(0, 0, 1)); at = at.Add(time.Minute) {
			_, open := windowOpens(at, w)
			if want := !at.Before(c.opens) && at.Before(c.opens.Add(w.Length)); open != want {
				t.Errorf("%s: open %v, want %v", at, open, want)
			}
		}
	}
}
