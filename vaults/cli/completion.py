"""Completion: the scripts that complete the words of the command in bash, zsh and fish. Knows shells, and no vault."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

DUE = r"""#compdef vaults
# Bash and zsh: tell what is due after the words given, in $due; and print what could stand there.
_vaults_due() {
    local word place=0 valued= ended=
    due= command= vault= json= dash=- root=${VAULTS_ROOT-} within=()
    for word in "$@"; do
        case $word in '~/'*) word=$HOME/${word#'~/'} ;; esac
        if [[ -n $valued ]]; then
            case $valued in --root) root=$word ;; --section) within+=("$valued" "$word") ;; esac
            valued=
        elif [[ -n $ended || $word != -?* ]]; then
            place=$((place + 1))
            case $place in 1) command=$word ;; 2) vault=$word ;; esac
        else
            case $word in
                --) ended=1 dash= ;;
                --root=*) root=${word#--root=} ;;
                --section=*) within+=("$word") ;;
                --json | --json-key) json=--json-key ;;
                @valued@) valued=$word ;;
            esac
        fi
    done
    case $valued$command:$((place - 1)) in
        --root* | --output* | --tokens* | --allowserve* | @file@) due=file ;;
        --prefix* | --from* | --to* | @key@) due=key ;;
        --*) ;;
        :-1) due=command ;;
        @vault@) due=vault ;;
        @shell@) due=shell ;;
    esac
    if [[ -z $ended$valued && $due != file && ${current-} == -* ]]; then due=option; fi
}
_vaults_words() {
    case $due in
        command) printf '%s\n' @commands@ ;;
        option)
            case $command in
                @options@
                *) printf '%s\n' --help --json --root --version ;;
            esac ;;
        vault) VAULTS_ROOT=$root command vaults list ;;
        key)
            if [[ -z $json ]]; then  # what begins with a quote is shown as JSON, with a dash it would be an option
                VAULTS_ROOT=$root command vaults keys --limit 50 "--prefix=$current" "${within[@]}" -- "$vault" |
                    command grep -v "^[\"$dash]"
            elif [[ $current == \"* ]]; then
                VAULTS_ROOT=$root command vaults keys --limit 50 $json "--prefix=$current\"" "${within[@]}" -- "$vault"
            else
                VAULTS_ROOT=$root command vaults keys --limit 500 $json "${within[@]}" -- "$vault"
            fi ;;
        shell) printf '%s\n' bash zsh fish ;;
    esac 2>/dev/null
}
"""

# Readline replaces what stands behind the last ':' or '=', or behind a quote that is open.
BASH = r"""_vaults() {
    local due command vault json dash root within current= quote= started= char word at words=()
    local line=${COMP_LINE:0:COMP_POINT}
    for ((at = 0; at < ${#line}; at++)); do
        char=${line:at:1}
        case $quote$char in
            \'\' | \"\") quote= ;;
            \\ | \"\\) at=$((at + 1)); current+=${line:at:1}; started=1 ;;
            \' | \") quote=$char; started=1 ;;
            ' ' | $'\t') [[ -n $started ]] && words+=("$current"); current= started= ;;
            *) current+=$char; started=1 ;;
        esac
    done
    _vaults_due "${words[@]:1}"
    COMPREPLY=()
    [[ -n $due && $due != file ]] || return
    at=${current##*[:=]}
    at=$((${#current} - ${#at}))
    while IFS= read -r word; do
        [[ $word == "$current"* ]] || continue
        if [[ -z $quote ]]; then
            printf -v word %q "${word:at}"
        elif [[ $quote == \" && $word == *[\"\\\$\`\!]* || $word == *[\'\!]* ]]; then
            continue
        fi
        COMPREPLY+=("$word")
    done < <(_vaults_words)
    [[ $due == vault ]] || compopt +o default 2>/dev/null
}
complete -o default -F _vaults vaults
"""

ZSH = r"""_vaults() {
    local due command vault json dash root current=${(Q)PREFIX}
    local -a within
    _vaults_due "${(@Q)words[2,CURRENT-1]}"
    local -a found=("${(@f)$(_vaults_words)}")
    [[ -n $due && $due != file ]] && compadd -a found
    [[ $due == file ]] && _files
    [[ $due == vault ]] && _files -g '*.db'
}
# It is loaded as a function of fpath, or by eval: then compinit may come after it, or not at all.
_vaults_begin() {
    add-zsh-hook -d precmd _vaults_begin
    (( $+functions[compdef] )) || { autoload -Uz compinit; compinit -i; }
    compdef _vaults vaults
}
if [[ ${funcstack[1]} == _vaults ]]; then
    _vaults "$@"
else
    autoload -Uz add-zsh-hook
    add-zsh-hook precmd _vaults_begin
fi
"""

FISH = r"""# fish: print what is due after the words given, and what could stand there.
function __vaults_due
    set -l place 0
    set -l valued
    set -l ended
    set -g __vaults_command
    set -g __vaults_vault
    set -g __vaults_json
    set -g __vaults_within
    set -g __vaults_root $VAULTS_ROOT
    for word in $argv
        set word (string replace -r '^~/' "$HOME/" -- $word)
        if test -n "$valued"
            test "$valued" = --root; and set __vaults_root $word
            test "$valued" = --section; and set -a __vaults_within --section=$word
            set valued
        else if test -n "$ended"; or not string match -qr '^-.' -- $word
            set place (math $place + 1)
            test $place = 1; and set __vaults_command $word
            test $place = 2; and set __vaults_vault $word
        else
            switch $word
                case --
                    set ended 1
                case '--root=*'
                    set __vaults_root (string replace -- --root= '' $word)
                case '--section=*'
                    set -a __vaults_within $word
                case --json --json-key
                    set __vaults_json --json-key
                case @valued@
                    set valued $word
            end
        end
    end
    switch "$valued$__vaults_command:"(math $place - 1)
        case '--root*' '--output*' '--tokens*' '--allowserve*' @file@
            echo file
        case '--prefix*' '--from*' '--to*' @key@
            echo key
        case '--*'
        case :-1
            echo command
        case @vault@
            echo vault
        case @shell@
            echo shell
    end
end
function __vaults_keys
    command vaults keys $__vaults_within $argv -- $__vaults_vault
end
function __vaults_words
    set -l words (commandline -opc)
    set -l current (commandline -ct | string unescape)
    set -l due (__vaults_due $words[2..-1])
    set -lx VAULTS_ROOT $__vaults_root
    set -l hidden '^"'
    if not contains -- -- $words
        set hidden '^["-]'
        string match -q -- '-*' "$current"; and test "$due" != file; and set due option
    end
    switch "$due"
        case command
            printf '%s\n' @commands@
        case option
            switch $__vaults_command
                @options@
                case '*'
                    printf '%s\n' --help --json --root --version
            end
        case vault
            command vaults list
            __fish_complete_path "$current" | string match -r '^[^\t]*(?:/|\.db)(?=\t|$)'
        case key
            if test -z "$__vaults_json"
                __vaults_keys --limit 50 "--prefix=$current" | string match -rv $hidden
            else if string match -q '"*' -- "$current"
                __vaults_keys --limit 50 --json-key "--prefix=$current\""
            else
                __vaults_keys --limit 500 --json-key
            end
        case shell
            printf '%s\n' bash zsh fish
        case file
            __fish_complete_path $current
    end 2>/dev/null
end
complete -c vaults -e
complete -c vaults -f -a '(__vaults_words)'
"""

KINDS = {**dict.fromkeys(('VAULT', 'BAD', 'FROM', 'TO'), 'vault'), **dict.fromkeys(('KEY', '[KEY]'), 'key'),
         'bash|zsh|fish': 'shell', **dict.fromkeys(('FILE', '[FILE]', '<FILE>', 'SOURCE'), 'file')}


def script(shell: str, commands: Dict[str, Any], arguments: Dict[str, Any]) -> str:
    """Return the script of a shell, with what cli.py's tables of commands and arguments know filled in."""
    due: Dict[str, List[str]] = {kind: [] for kind in KINDS.values()}
    options: Dict[str, List[str]] = {}
    for name, (_, _, _, words) in commands.items():
        places = [word for word in words if word[0] != '-']
        for at, word in enumerate(places):
            due.get(KINDS.get(word, ''), []).append(f'{name}:{at}')
        options[name] = ['--root', '--json', *sorted({*words} - {*places})]
    valued = ['--root', *(word for word, (_, how) in arguments.items()
                          if word[0] == '-' and how.get('action') != 'store_true')]
    lists = {**due, 'valued': valued}
    if shell == 'fish':
        mark, option = ' ', "case {}\n                    printf '%s\\n' {}"
    else:
        mark, option = ' | ', "{}) printf '%s\\n' {} ;;"
    cases = [option.format(name, ' '.join(words_)) for name, words_ in options.items()]
    inside = {**{kind: mark.join(words_) for kind, words_ in lists.items()}, 'commands': ' '.join(commands),
              'options': f"\n{' ' * 16}".join(cases)}
    text = FISH if shell == 'fish' else DUE + {'bash': BASH, 'zsh': ZSH}[shell]
    for mark, words_ in inside.items():
        text = text.replace(f'@{mark}@', words_)
    return text
