package daemon

import (
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/acmed/acmed/internal/systemd"
	"github.com/acmed/acmed/internal/text"
)

// fielded sends entries to the journal with fields of their own, so that "journalctl CERTIFICATE=www EVENT=obtained" finds
// them. When the journal takes none, the line goes to the core below, which loses the fields only.
type fielded struct {
	zapcore.Core
	encoder zapcore.Encoder
	context []zapcore.Field // of the logger itself
	socket  string
}

// With is part of zapcore.Core.
func (f *fielded) With(fields []zapcore.Field) zapcore.Core {
	return &fielded{Core: f.Core.With(fields), encoder: f.encoder, context: slices.Concat(f.context, fields), socket: f.socket}
}

// Check is part of zapcore.Core.
func (f *fielded) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if f.Enabled(entry.Level) {
		return checked.AddCore(entry, f)
	}
	return checked
}

// Write is part of zapcore.Core.
func (f *fielded) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	all := slices.Concat(f.context, fields)
	line, err := f.encoder.EncodeEntry(entry, all)
	if err != nil {
		return err
	}
	sent := []systemd.Field{
		{Name: "MESSAGE", Value: strings.TrimSuffix(line.String(), "\n")},
		{Name: "PRIORITY", Value: priority(entry.Level)},
		{Name: "SYSLOG_IDENTIFIER", Value: "acmed"},
	}
	line.Free()
	if systemd.Log(f.socket, append(sent, searchable(all)...)...) != nil {
		return f.Core.Write(entry, fields)
	}
	return nil
}

// searchable are the fields that somebody would look for in the journal, without control characters other than the ends of
// the lines of an error.
func searchable(fields []zapcore.Field) (found []systemd.Field) {
	for _, field := range fields {
		switch field.Key {
		case "certificate", "identifier", "event", "solver", "issuer", "target", "code", "error":
		default:
			continue
		}
		values := zapcore.NewMapObjectEncoder()
		field.AddTo(values)
		value, ok := values.Fields[field.Key]
		if !ok { // an error that is nil
			continue
		}
		found = append(found, systemd.Field{Name: strings.ToUpper(field.Key), Value: text.Escape(fmt.Sprint(value), "\t\n")})
	}
	return found
}
