"""Completion: the scripts that complete the words of the command in bash and zsh. Knows shells, and no vault."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

DUE = r"""#compdef vaults
# Both shells: tell what is due after the words given, in $due; and print what could stand there.
_vaults_due() {
    local word place=0 valued= ended=
    due= command= vault= json= dash=- root=${VAULTS_ROOT-}
    for word in "$@"; do
        case $word in '~/'*) word=$HOME/${word#'~/'} ;; esac
        if [[ -n $valued ]]; then
            [[ $valued == --root ]] && root=$word
            valued=
        elif [[ -n $ended || $word != -?* ]]; then
            place=$((place + 1))
            case $place in 1) command=$word ;; 2) vault=$word ;; esac
        else
            case $word in
                --) ended=1 dash= ;;
                --root=*) root=${word#--root=} ;;
                --json) json=1 ;;
                @valued@) valued=$word ;;
            esac
        fi
    done
    case $valued$command:$((place - 1)) in
        --root* | --output* | @file@) due=file ;;
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
        key)  # which would be an option with a dash in front, and is shown as JSON when it begins with a quote
            [[ -n $json ]] || VAULTS_ROOT=$root command vaults keys --limit 50 "--prefix=$current" -- "$vault" |
                command grep -v "^[\"$dash]" ;;
        shell) printf '%s\n' bash zsh ;;
    esac 2>/dev/null
}
"""

# Readline replaces what stands behind the last ':' or '=', or behind a quote that is open.
BASH = r"""_vaults() {
    local due command vault json dash root current= quote= started= char word line=${COMP_LINE:0:COMP_POINT} at words=()
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
        elif [[ $word == *[\'\"\\\$\`\!]* ]]; then
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
    _vaults_due "${(@Q)words[2,CURRENT-1]}"
    local -a found=("${(@f)$(_vaults_words)}")
    [[ -n $due && $due != file ]] && compadd -a found
    [[ $due == file ]] && _files
    [[ $due == vault ]] && _files -g '*.db'
}
if [[ ${funcstack[1]} == _vaults ]]; then _vaults "$@"; else compdef _vaults vaults; fi
"""

KINDS = {'VAULT': 'vault', 'BAD': 'vault', 'KEY': 'key', 'FILE': 'file', '[FILE]': 'file', '<FILE>': 'file',
         'SOURCE': 'file', 'bash|zsh': 'shell'}


def script(shell: str, commands: Dict[str, Any], arguments: Dict[str, Any]) -> str:
    """Return the script of a shell, with what cli.py's tables of commands and arguments know filled in."""
    due: Dict[str, List[str]] = {kind: [] for kind in KINDS.values()}
    options = []
    for name, (_, _, _, words) in commands.items():
        places = [word for word in words if word[0] != '-']
        for at, word in enumerate(places):
            due.get(KINDS.get(word, ''), []).append(f'{name}:{at}')
        options.append(f"{name}) printf '%s\\n' {' '.join(['--root', '--json', *sorted({*words} - {*places})])} ;;")
    valued = ['--root', *(word for word, (_, how) in arguments.items() if word[0] == '-' and 'action' not in how)]
    inside = {**{kind: ' | '.join(at) for kind, at in due.items()}, 'commands': ' '.join(commands),
              'options': f"\n{' ' * 16}".join(options), 'valued': ' | '.join(valued)}
    text = DUE + {'bash': BASH, 'zsh': ZSH}[shell]
    for mark, words_ in inside.items():
        text = text.replace(f'@{mark}@', words_)
    return text
