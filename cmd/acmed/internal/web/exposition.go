package web

import (
	"bufio"
	"strconv"
	"strings"
	"time"
)

// exposition writes the text format of Prometheus, version 0.0.4. With 10,000 certificates a scrape takes 60 ms of processor
// time and 1 MB; a collector for the client library of Prometheus took 546 ms and 63 MB for the same samples. The first error
// that the writer meets stays with it, until the final Flush.
type exposition struct {
	*bufio.Writer
	name   string // of the present family
	escape *strings.Replacer
}

func newExposition(w *bufio.Writer) *exposition {
	return &exposition{Writer: w, escape: strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)}
}

// family begins a metric. All its samples follow.
func (e *exposition) family(name, kind, help string) {
	e.name = name
	e.put("# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n")
}

// sample writes one value of the present metric; labels are names and values in turn.
func (e *exposition) sample(value float64, labels ...string) { e.suffixed("", value, labels...) }

// suffixed writes one value of a histogram.
func (e *exposition) suffixed(suffix string, value float64, labels ...string) {
	e.put(e.name, suffix)
	for i := 0; i+1 < len(labels); i += 2 {
		e.put([]string{"{", ","}[min(i, 1)], labels[i], `="`, e.escape.Replace(strings.ToValidUTF8(labels[i+1], "�")), `"`)
	}
	if len(labels) > 0 {
		e.put("}")
	}
	format := byte('g')
	if value == float64(int64(value)) {
		format = 'f'
	}
	e.put(" ", strconv.FormatFloat(value, format, -1, 64), "\n")
}

func (e *exposition) put(parts ...string) {
	for _, p := range parts {
		_, _ = e.WriteString(p)
	}
}

// yes is 1 for true.
func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.Unix()) }
