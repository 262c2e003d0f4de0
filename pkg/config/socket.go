package config

import (
	"path/filepath"
	"reflect"
)

// Socket is where the daemon with the configuration at path listens. It is found whatever else is wrong with the
// configuration: a daemon goes on with the one that it has, and must stay within reach. Secrets and other files that the
// configuration names need not be readable.
func Socket(path string) string {
	l := &loader{schema: reflect.TypeFor[Config](), order: map[string]int{}}
	main := l.read(path)
	for _, s := range append([]*source{main}, l.included(main)...) {
		if socket, ok := s.values["socket"].(string); ok && filepath.IsAbs(socket) {
			return socket
		}
	}
	return defaults().Socket
}

// File is one file of a configuration with its text.
type File struct {
	Path string
	Text []byte // nil when it could not be read, or was refused
}

// Files reads the files of the configuration at path as [Load] does, whatever their texts are worth. The error has what is
// wrong with them.
func Files(path string) ([]File, error) {
	l := &loader{schema: reflect.TypeFor[Config](), order: map[string]int{}}
	main := l.read(path)
	var files []File
	var problems []Problem
	for _, s := range append([]*source{main}, l.included(main)...) {
		files = append(files, File{s.file, s.text})
		problems = append(problems, s.problems...)
	}
	return files, asError(problems, l.order)
}
