// Package docs holds the pages about failures, for the command that shows them. It promises one page for each code of
// package advice.
package docs

import "embed"

// Errors has the pages as errors/CODE.md.
//
//go:embed errors/*.md
var Errors embed.FS
