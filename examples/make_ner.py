"""Write a small column file set of named entities: 600 sentences to train on and 120 that are held out.

Sentences are written for this project and filled with names of persons (PER), organisations (ORG) and places (LOC). The
held-out ones have other wordings and other names, so that neither can be learnt by heart.

Usage: make_ner.py DIRECTORY    (then: fastprompt train --task_name ner --data_dir DIRECTORY ...)
"""

import random
import sys
from pathlib import Path

WORDINGS = {
    "train": [
        "{PER} moved to {LOC} last spring .",
        "{ORG} opened a second office in {LOC} .",
        "The mayor of {LOC} thanked {PER} for the gift .",
        "{PER} has worked for {ORG} since the winter .",
        "Nobody at {ORG} wanted to comment on Monday .",
        "It rained in {LOC} , and the train from {LOC} was late .",
        "{PER} and {PER} wrote the report together .",
        "Shares of {ORG} fell after the news from {LOC} .",
        "We met {PER} at the station in {LOC} .",
        "The new head of {ORG} is {PER} .",
        "According to {PER} , the bridge near {LOC} is safe .",
        "{ORG} and {ORG} will merge next year .",
        "My sister studied in {LOC} before she joined {ORG} .",
        "The court in {LOC} ruled against {ORG} .",
        "{PER} , who was born in {LOC} , won the race .",
        "A letter from {PER} reached {ORG} too late .",
        "There is a small museum in {LOC} about the river .",
        "Could you ask {PER} whether the shop is open ?",
        "{ORG} hired forty people in {LOC} and {LOC} .",
        "The book by {PER} was printed in {LOC} .",
        "Last night {PER} sang for the workers of {ORG} .",
        "Farmers around {LOC} sold their milk to {ORG} .",
        "The lawyer of {ORG} , {PER} , left without a word .",
        "I have never been to {LOC} .",
        "{PER} called the editor of the paper twice .",
        "For years {ORG} paid no tax in {LOC} .",
        "The teacher said that {PER} had lost the key .",
        "A storm from the sea hit {LOC} on Sunday evening .",
        "{ORG} denied that {PER} had been dismissed .",
        "The flight to {LOC} was full , so {PER} took the bus .",
        "Two guards of {ORG} found the dog of {PER} .",
        "In the end the price was too high for everyone .",
        "The old road leads through the forest to {LOC} .",
        "{PER} bought the house that {ORG} had built .",
        "Doctors in {LOC} praised the nurse {PER} .",
        "Everyone waited , but the door stayed closed .",
        "The company {ORG} sells tea and coffee in {LOC} .",
        "{PER} is a professor at {ORG} .",
        "After two weeks in {LOC} , {PER} came home .",
        "The river flows from {LOC} to {LOC} .",
        "{ORG} said on Friday that sales had doubled .",
        "The singer {PER} cancelled her concert in {LOC} .",
        "{PER} left {ORG} to open a bakery .",
        "The minister flew to {LOC} and met {PER} .",
        "Workers of {ORG} marched through {LOC} .",
        "Most tourists in {LOC} never see the old harbour .",
        "{PER} asked {PER} for help .",
        "The factory in {LOC} belongs to {ORG} .",
        "Why did {ORG} fire {PER} ?",
        "They married in {LOC} and moved to {LOC} .",
        "A spokesman for {ORG} refused to name {PER} .",
        "The film by {PER} was shown at the festival in {LOC} .",
        "{LOC} has more bicycles than cars .",
        "{ORG} bought the land from {PER} .",
        "In {LOC} , the winter was mild .",
        "The report of {ORG} is two hundred pages long .",
        "{PER} scored twice in the match against {LOC} .",
        "The museum of {LOC} lent the vase to {PER} .",
        "{ORG} plans to build a bridge in {LOC} .",
        "Nobody had seen {PER} since Tuesday .",
    ],
    "validation": [
        "{PER} travelled from {LOC} to {LOC} by boat .",
        "The workers of {ORG} went on strike in {LOC} .",
        "Yesterday {PER} became the director of {ORG} .",
        "A painting by {PER} hangs in the hall of {ORG} .",
        "The hospital in {LOC} was paid for by {ORG} .",
        "Her cousin {PER} lives near {LOC} .",
        "{ORG} sued {PER} over the photographs .",
        "Prices in {LOC} rose faster than wages .",
        "The winner , {PER} , thanked {PER} and the whole team .",
        "Police stopped a lorry of {ORG} outside {LOC} .",
        "Nothing happened for three weeks .",
        "If {ORG} leaves {LOC} , the school will close .",
    ],
}
NAMES = {
    "train": {
        "PER": "Anna Keller,Bob Marsh,Carla Reyes,David Okafor,Elena Petrova,Farid Haddad,Grace Liu,"
        "Henry Dalton,Ines Costa,Jonas Weber,Karen Holt,Luis Romero,Maria Rossi,Noah Bennett,"
        "Olga Ivanova,Peter Lang,Rosa Silva,Samuel Abebe,Tanja Novak,Victor Hugo Perez,Wendy Cole,"
        "Yusuf Demir,Alice,Martin,Sofia,Thomas,Dr. Brandt,Emily Clarke,George Whitman,"
        "Hana Suzuki,Ali Hassan,Barbara Stein,Chen Wei,Dimitri Volkov,Eva Lindholm,Frank Miller,"
        "Giulia Conti,Hugo Martins,Irene Papadopoulos,Jack Sullivan,Katarina Horvat,Leon Fischer,"
        "Mina Park,Nora Walsh,Omar Farouk,Priya Nair,Quentin Leroy,Rachel Green,Stefan Wolf,"
        "Tom Baker,Ursula Meyer,Vera Popova,Walter Scott,Xavier Moreau,Yuki Tanaka,Zoe Adams,"
        "William,Charlotte,Mr. Jenkins,Mrs. Oduya",
        "ORG": "Northwind Bank,Acme Motors,the Red Cross,Hillside Foods,Delta Shipping,Orion Software,"
        "Green Valley Farms,Atlas Insurance,Blue Harbor Airlines,Summit Energy,the Labour Party,"
        "Riverside University,Pioneer Steel,Sunrise Media,Crown Chemicals,Kestrel Systems,"
        "the World Bank,Lakeview Hospital Group,Phoenix Records,Harvest Foundation,Vertex Pharma,"
        "the Ministry of Health,Grand Union Railways,Polar Fisheries,Silverline Telecom,"
        "Mercury Airlines,First National Bank,the Conservative Party,Oakwood University,"
        "Stellar Pictures,Bright Foods,Royal Insurance,Apex Steel,the European Commission,"
        "Trident Oil,Cascade Software,Liberty Motors,the Salvation Army,Maple Telecom,Falcon Press,"
        "the Ministry of Finance,Unity Health,Amber Chemicals,Pacific Railways,Zenith Media,"
        "Gulf Energy,Omega Pharma,the Supreme Court,Castle Brewery,Nordic Shipping",
        "LOC": "Berlin,Paris,New York,Cairo,Lisbon,Oslo,Tokyo,Madrid,Nairobi,Lima,Boston,Vienna,"
        "Cape Town,Brazil,Canada,Spain,Texas,Bavaria,Kenya,Norway,Chicago,Rome,Dublin,Mumbai,"
        "Buenos Aires,Sydney,Poland,Egypt,Scotland,Seattle,Amsterdam,Barcelona,Beijing,Chile,"
        "Cuba,Delhi,Denmark,Finland,Geneva,Greece,Hamburg,Iceland,India,Istanbul,Jakarta,"
        "Japan,Johannesburg,Kyoto,Los Angeles,Manchester,Mexico,Montreal,Naples,New Zealand,"
        "Nigeria,Prague,Rio de Janeiro,Russia,San Diego,South Korea,Sicily,Vermont,Vietnam,"
        "Warsaw,Yorkshire",
    },
    "validation": {
        "PER": "Laura Schmidt,James Porter,Fatima Rahman,Paul Dubois,Nina Andersson,Oscar Mendez,"
        "Ruth Goldberg,Ivan Sokolov,Julia Stone,Daniel Kim,Margaret,Robert Hayes,Clara Jensen,"
        "Ahmed Saleh,Lucy Turner",
        "ORG": "Eastgate Bank,Titan Motors,the Green Party,Meadow Foods,Falcon Airlines,Cobalt Software,"
        "Westbrook University,Ironbridge Steel,the Ministry of Transport,Harbour Insurance,"
        "Nova Pharma,Evergreen Energy",
        "LOC": "Munich,London,San Francisco,Athens,Helsinki,Seoul,Denver,Zurich,Peru,Sweden,Florida,"
        "Moscow,Milan,Ghana,Hong Kong,Portugal",
    },
}
COUNTS = {"train": 600, "validation": 120}
FILES = {"train": "train.txt", "validation": "valid.txt"}


def sentence(wording: str, names: dict[str, list[str]], draw: random.Random) -> list[tuple[str, str]]:
    """(token, tag) pairs in IOB2."""
    tagged = []
    for word in wording.split():
        kind = word.strip("{}")
        if kind == word:
            tagged.append((word, "O"))
            continue
        for place, part in enumerate(draw.choice(names[kind]).split()):
            tagged.append((part, f"{'I' if place else 'B'}-{kind}"))
    first, tag = tagged[0]
    return [(first[0].upper() + first[1:], tag), *tagged[1:]]


def write(directory: Path, seed: int = 0) -> None:
    """Write train.txt and valid.txt: a token and its tag a line, a blank line after each sentence."""
    directory.mkdir(parents=True, exist_ok=True)
    for split, count in COUNTS.items():
        draw = random.Random(f"{seed} {split}")
        names = {kind: text.split(",") for kind, text in NAMES[split].items()}
        wordings = WORDINGS[split] * (count // len(WORDINGS[split]))
        draw.shuffle(wordings)
        blocks = ["\n".join(" ".join(pair) for pair in sentence(w, names, draw)) for w in wordings]
        (directory / FILES[split]).write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
