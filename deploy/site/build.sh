#!/bin/sh
# The documentation as a site, in dist/site: the Markdown of the repository as it is, by MkDocs, which needs no network. A link that
# leads nowhere is an error.
set -eu
cd "$(dirname "$0")/../.."
source=dist/site-source
rm -rf $source dist/site
mkdir -p $source
cp -r README.md CHANGELOG.md LICENSE docs configs deploy bench $source/
find $source -name '*.go' -exec rm {} +
title() { sed -n 's/^# //p' "$1" | head -n 1 | tr -d '`"'; }
page() { echo "$2- \"$(title "$1")\": $1"; }
{
	cat deploy/site/mkdocs.yml
	echo "nav:"
	echo "  - Home: README.md"
	for name in get pictures comparison; do page docs/$name.md "  "; done
	echo "  - Guides:"
	echo "    - Overview: docs/guides/README.md"
	for file in docs/guides/[a-z]*.md; do page "$file" "    "; done
	echo "  - Errors:"
	echo "    - All errors: docs/errors/README.md"
	for file in docs/errors/[a-z]*.md; do page "$file" "    "; done
	echo "  - Reference:"
	for file in docs/[A-Z]*.md; do page "$file" "    "; done
	page CHANGELOG.md "    "
} >dist/mkdocs.yml
mkdocs build --strict --config-file dist/mkdocs.yml
rm -r $source
test -s dist/site/search/search_index.json
echo "dist/site: $(find dist/site -name '*.html' | wc -l) pages"
