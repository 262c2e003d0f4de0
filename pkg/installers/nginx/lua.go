package nginx

import "bytes"

// luaEnd returns the offset behind the '}' that ends a Lua block whose body begins at pos, or -1. As in
// lua-nginx-module, braces count except in Lua strings, long brackets and comments.
func luaEnd(text []byte, pos int) int {
	for depth := 1; pos >= 0 && pos < len(text); {
		switch c := text[pos]; c {
		case '{':
			depth++
			pos++
		case '}':
			pos++
			if depth--; depth == 0 {
				return pos
			}
		case '"', '\'':
			pos = luaString(text, pos, c)
		case '-':
			pos = luaComment(text, pos)
		case '[':
			pos = luaLongBracket(text, pos)
		default:
			pos++
		}
	}
	return -1
}

func luaString(text []byte, pos int, quote byte) int {
	for pos++; pos < len(text); pos++ {
		switch text[pos] {
		case '\\':
			pos++
		case quote:
			return pos + 1
		}
	}
	return -1
}

func luaComment(text []byte, pos int) int {
	if !bytes.HasPrefix(text[pos:], []byte("--")) {
		return pos + 1
	}
	pos += 2
	if end := luaLongBracket(text, pos); end != pos+1 {
		return end
	}
	n := bytes.IndexByte(text[pos:], '\n')
	if n < 0 {
		return -1
	}
	return pos + n + 1
}

// luaLongBracket skips "[==[ … ]==]". It returns pos+1 when there is no long bracket at pos, and -1 when it does not end.
func luaLongBracket(text []byte, pos int) int {
	if pos >= len(text) || text[pos] != '[' {
		return pos + 1
	}
	open := pos + 1
	for open < len(text) && text[open] == '=' {
		open++
	}
	if open == len(text) || text[open] != '[' {
		return pos + 1
	}
	closing := append(append([]byte{']'}, text[pos+1:open]...), ']')
	n := bytes.Index(text[open+1:], closing)
	if n < 0 {
		return -1
	}
	return open + 1 + n + len(closing)
}
