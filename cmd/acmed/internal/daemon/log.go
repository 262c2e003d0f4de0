package daemon

import (
	"fmt"
	"io"
	"os"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"github.com/acmed/acmed/internal/systemd"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/config"
)

// NewLogger makes the log that the configuration asks for, on w. Lines never contain control characters, whatever a CA
// or a client sent: they are escaped in both formats. When w goes to the journal, entries have fields to search for.
func NewLogger(c config.Log, w io.Writer) (*zap.Logger, error) {
	return newLogger(c, w, systemd.JournalSocket)
}

func newLogger(c config.Log, w io.Writer, socket string) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey, enc.EncodeTime = "time", zapcore.RFC3339TimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	f, ok := w.(*os.File)
	journal := ok && systemd.ToJournal(f)
	if journal {
		enc.TimeKey = "" // the journal has its own
	}
	var plain zapcore.Encoder
	if c.Format == "json" {
		plain = zapcore.NewJSONEncoder(enc)
	} else {
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		plain = zapcore.NewConsoleEncoder(enc)
	}
	encoder, out := escaping{plain}, zapcore.Lock(zapcore.AddSync(w))
	if !journal {
		return zap.New(zapcore.NewCore(encoder, out, level)), nil
	}
	lines := zapcore.NewCore(prioritised{encoder}, out, level)
	return zap.New(&fielded{Core: lines, encoder: encoder, socket: socket}), nil
}

// prioritised begins each line with its syslog priority, so that "journalctl -p warning" finds it.
type prioritised struct{ zapcore.Encoder }

// Clone is part of zapcore.Encoder.
func (p prioritised) Clone() zapcore.Encoder { return prioritised{p.Encoder.Clone()} }

// EncodeEntry encodes an entry behind its priority.
func (p prioritised) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	buf, err := p.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	line := buf.String()
	buf.Reset()
	buf.AppendString("<" + priority(entry.Level) + ">")
	buf.AppendString(line)
	return buf, nil
}

// priority is the number that syslog(3) has for a level.
func priority(l zapcore.Level) string {
	switch {
	case l >= zapcore.ErrorLevel:
		return "3"
	case l == zapcore.WarnLevel:
		return "4"
	case l == zapcore.InfoLevel:
		return "6"
	}
	return "7"
}

// escaping makes each entry one line of printable text. The console encoder would write messages as they are, and even
// the JSON encoder lets DEL and the C1 controls through, which some terminals obey.
type escaping struct{ zapcore.Encoder }

// Clone is part of zapcore.Encoder.
func (e escaping) Clone() zapcore.Encoder { return escaping{e.Encoder.Clone()} }

// EncodeEntry encodes an entry and escapes what is not printable in it.
func (e escaping) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	buf, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	line := strings.TrimSuffix(buf.String(), "\n")
	buf.Reset()
	buf.AppendString(text.Escape(line, "\t"))
	buf.AppendByte('\n')
	return buf, nil
}
