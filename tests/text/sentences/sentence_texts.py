"""Annotated texts: a ¦ marks each place at which a careful reader would cut.

Every second text was unknown to the rules while they were written, except for the last text
of each group: these are of the kinds that answers are full of, and were written with the
rules. Some ask for more than rules can know; a share of the cuts must be right. The texts
from ABBREVIATIONS on must all be exact.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    language: str
    sentences: list[str]

    @property
    def text(self) -> str:
        return "".join(self.sentences)


def _cases(language: str, lines: str) -> list[Case]:
    """One text per line, with \\n, \\r and \\t as escapes."""
    texts = lines.strip("\n").replace("\\n", "\0").replace("\\r", "\r").replace("\\t", "\t")
    return [Case(language, line.replace("\0", "\n").split("¦")) for line in texts.split("\n")]


ENGLISH = _cases(
    "en",
    r"""
The meeting starts at noon. ¦Please be on time. ¦Bring your notes.
Dr. Smith arrived at 9 a.m. and left at noon. ¦He was tired.
Mr. and Mrs. Jones live in St. Louis. ¦They moved there in Jan. 2019.
The U.S. economy grew by 3.5% last year. ¦Inflation fell to 2.1%.
She lives in the U.S. ¦The weather there varies.
J. K. Rowling wrote the series. ¦It sold millions of copies.
Version 2.0.1 is out. ¦Install it with pip.
Is this right? ¦Yes! ¦It certainly is.
"Stop right there!" he shouted. ¦Nobody moved.
"I don't know," she said. ¦"Maybe tomorrow."
He said, "It is late. ¦We should go." ¦Then he left.
Use tools such as grep, sed, etc. to search. ¦They are fast.
Pack water, food, etc. ¦Then start walking.
See Fig. 3 for details. ¦The data are clear.
The package (see p. 42) is heavy. ¦Handle with care.
He teaches math (he was an engineer before.) at the local school. ¦Students like him.
(This is a side note.) ¦The main text goes on.
Visit https://example.com/a.b?c=d for more. ¦It is free.
Go to www.example.com. ¦Click the button.
Open config.yaml and set debug to true. ¦Save the file.
Node.js and ASP.NET are frameworks. ¦Both are popular.
Well... I am not sure. ¦Let me think.
I waited... and waited. ¦Nobody came.
I don't know… ¦Maybe we should ask.
The price is $4.99. ¦Tax is extra.
The temperature was -3.5 degrees. ¦It snowed.
It happened in 1999. ¦Nobody noticed.
There were 25. ¦Some left early.
What?! ¦You must be joking.
No way!!! ¦That is amazing.
That works great! 😀 ¦Let me know how it goes.
Thanks so much! 🎉🎉 ¦See you soon.
i went home. ¦it was late. ¦i was tired lol
hey whats up? ¦not much. ¦just chilling
The max. speed is 120 km/h. ¦The min. speed is 60.
Approx. 40 people came. ¦That was enough.
He works for Apple Inc. in California. ¦He likes it.
Gen. Lee met Col. Brown. ¦They talked for hours.
No. 5 is my favorite. ¦It smells nice.
I said no. ¦He did not listen.
She has a Ph.D. in physics. ¦Her brother has an M.A. in history.
Plan A failed. ¦Plan B worked, i.e. we won. ¦Everyone cheered.
The **first** step is easy. ¦The *second* is not.
**Be careful.** ¦This can break things.
_Really?_ ¦I had no idea.
Run `pip install foo. Bar` first. ¦Then restart.
Use `x = 1.` as a default. ¦It is safe.
The capital is Paris.[1] ¦It lies on the Seine.[2][3] ¦It is old.
He was born on Dec. 5, 1950. ¦He died in 2001.
At 5 p.m. Mr. Smith went to the bank. ¦He came back at six.
We met at 5 p.m. ¦Then we had dinner.
Wait — what? ¦That is odd.
The answer is simple: yes. ¦No doubt about it.
Steps: mix the eggs; add salt. ¦Cook for 5 min. on low heat.
"Are you coming?" ¦"No." ¦"Why not?" ¦"I am tired."
“Good morning,” she said. ¦“Did you sleep well?” ¦He nodded.
‘Never again,’ he muttered. ¦She laughed.
Yahoo! was a search engine. ¦Google replaced it.
He asked, "Why?" and left. ¦I stayed.
The show stars John F. Kennedy Jr. and others. ¦It airs at 8.
Rev. King spoke. ¦Sen. Warren listened. ¦Prof. Lee took notes.
Vol. 2, No. 3, pp. 10-12 covers it. ¦Read it.
I like the iPhone. ¦iPads are nice too.
It was the best of times. ¦It was the worst of times. ¦It was the age of wisdom.
Send it to john.doe@example.com. ¦He will answer.
Water boils at 100 °C. ¦Ice melts at 0 °C.
Let me explain. ¦First, you need a key. ¦Second, you need a door. ¦Third, you turn the key.
Oh no! ¦Did it break? ¦Don't worry; I can fix it.
The film (2010, dir. C. Nolan) was a hit. ¦It won Oscars.
Sure! ¦Here's a short summary: it rains. ¦Take an umbrella.
She turned to him, "This is great." she said. ¦He agreed.
Add 2 tbsp. of sugar. ¦Stir well. ¦Bake for 30 min. ¦Let it cool.
I'll take option C. ¦It's the safest.
vs. the old model, it is fast. ¦It costs less, too.
The file is 3.2 MB. ¦Download takes 5 sec. ¦Enjoy!
Mt. Everest is 8,849 m high. ¦K2 is 8,611 m.
He (Mr. Brown) agreed. ¦She didn't.
First released in v1.2. ¦Deprecated in v2.0. ¦Removed in v3.0.
Hello! ¦How can I help you today?
It's 10:30. ¦Time to go. ¦Are you ready?
Sure thing. ¦Let me look that up for you.
The CEO, Mr. Tim Cook, spoke first. ¦Sales rose 12.5% in Q3.
Photosynthesis is how plants make food. ¦They use light, water, and CO2. ¦Oxygen is released.
Lt. Col. Adams was there. ¦So was Capt. Reed.
Prices range from $1.50 to $20. ¦Shipping costs extra.
"Who's there?" asked Tom. ¦"It's me," said Ann.
The lecture is on Fri. Nov. 3 at 2 p.m. in room 5. ¦Don't be late.
I love it!! ¦Where did you get it?
My favorite book is "War and Peace." ¦I read it twice.
Washington, D.C. is the capital. ¦It lies on the Potomac.
We visited Washington, D.C. ¦It was sunny.
Use HTTP/1.1 or HTTP/2. ¦Both work fine.
Import it with from math import sqrt. ¦Then call sqrt(2.0).
He finished 2nd. ¦She finished 1st.
Hmm... that seems off. ¦Let me check again.
Bread, milk, eggs, etc. are in the bag. ¦Take it.
The ratio is approx. 3:1. ¦That's a lot.
Call me at 555.123.4567. ¦I'm home all day.
This costs less than 5 ft. of rope. ¦Buy two.
"To be, or not to be." ¦That is the question.
It was, e.g., a dog. ¦Or a cat, i.e. a pet.
Dr. Strange, M.D., is fictional. ¦He appears in comics.
lol that's funny. ¦i can't even. ¦omg
ok so basically you install it. ¦then you run it. ¦easy right?
Good question! ¦In short: no.
Is it true? ¦(I doubt it.) ¦Let's see.
He scored 3 goals vs. Spain. ¦Fans cheered.
The file README.md explains it. ¦Read it first.
He came in at 10 a.m. ¦She came at 11 a.m. ¦They left together.
World War II. ended in 1945 ... or did it? ¦Historians agree.
Great job 👍 ¦Keep going!
Happy birthday! 🎂🎈 ¦Have fun.
The U.N. met in Geneva. ¦The E.U. agreed.
Sen. Bernie Sanders (I-Vt.) spoke. ¦He was loud.
What a day… ¦I need sleep.
The answer is no. ¦1 in 10 people disagree.
There are 3 options. ¦2 of them are bad.
"Wait," I said, "is that yours?" ¦He shrugged.
She whispered, 'Run!' ¦We ran.
Set x = 5. ¦Then y = x + 1. ¦Print y.
First, preheat the oven to 350°F. ¦Second, mix flour, sugar, and salt. ¦Third, bake for 25 min. or until golden.
St. Patrick's Day is in March. ¦People wear green.
As of v3.11, it's faster. ¦Upgrade now.
It's 5 o'clock. ¦I'm going home. ¦Bye!
I met J. Smith. ¦He is nice.
No. ¦I don't think so.
Ok. ¦Done.
I asked him twice. ¦He said no. ¦We left anyway.
Tell me. ¦Bob told me. ¦Alice told me, too.
Mix 2 tbsp. honey and 1 tsp. salt. ¦Stir well.
Bake for 20 min. ¦Serve warm.
Dogs, cats, etc. are pets. ¦Lions, tigers, etc. ¦Nobody owns those.
We met on Tues. Jan. 5 in Bonn. ¦It rained.
It runs from 9 a.m. to 5 p.m. Monday to Friday. ¦It is closed on Sunday.
The show starts at 3 p.m. EST. ¦Tickets cost $5.
“Stop!” Marcus shouted. ¦The car skidded.
"Are you sure?" Dr. Patel asked. ¦"Yes," said Ben.
“Really?” I asked. ¦“Yes,” he said.
“Really?” ¦Sarah's eyes widened. ¦“Yes.”
“Know thyself.” — Socrates
*Where am I?* she thought. ¦Nobody was there.
He came (it was late. Very late.) and left again. ¦Nobody minded.
The tool is fast (written in Rust!). ¦Use it.
The code is in src/main.rs. ¦Run it with cargo.
Open README.md. ¦Read it first.
I bought an iPhone. ¦It is new. ¦eBay sells it, too.
This was shown before.[12] ¦It was not.[^note] ¦Really?[15] ¦Yes.
He joined the U.S. Army in 1990. ¦He left in 1995.
J.-P. Sartre wrote it. ¦George W. Bush read it.
""",
)

MARKDOWN = _cases(
    "en",
    r"""
# Title\n\n¦First paragraph. ¦It has two sentences.\n\n¦Second paragraph.
## 1. Introduction\n\n¦This is the intro.\n\n¦## 2. Methods\n\n¦We did things.
- First item\n¦- Second item\n¦- Third item
1. Open the door.\n¦2. Walk in.\n¦3. Close it.
1. Open the door. ¦Be quiet.\n¦2. Walk in.
Here is the code:\n\n¦```python\nx = 1. \nprint("Hi. There.")\n```\n\n¦That prints it.
```\na. B. C.\n\nD! E?\n```\n¦Done.
**Note:** this is important. ¦Read it twice.
**Bold sentence.** ¦Another one. ¦*Italic one.* ¦Last one.
| Name | Text |\n¦|---|---|\n¦| A. B. | It works. Yes. |\n¦| C | No! Really? |\n\n¦After the table.
> A quote. ¦It goes on.\n¦>\n> And ends.\n\n¦Then text.
* One\n¦* Two. ¦Still two.\n¦  * Nested\n¦* Three
Use `a.b()` or `c. D`. ¦Both work.
### Step 1: Install\n¦Run `pip install x`.\n\n¦### Step 2: Use\n¦Import it.
1. **Setup.** ¦Install it.\n¦2. **Usage.** ¦Run it.
- **Speed:** It is fast. ¦Very fast.\n¦- **Size:** It is small.
Text before.\n¦---\n¦Text after.
See [the docs](https://example.com/a.html). ¦They help.
![Image](a.png)\n\n¦A caption. ¦More text.
~~~sh\necho "a. B"\n~~~\n\n¦Ok. ¦Done.
- [ ] Buy milk.\n¦- [x] Call mom. ¦Twice.
Sure! ¦Here you go:\n\n¦1. Apples\n¦2. Pears\n\n¦Enjoy!
## What is it?\n\n¦It is a thing. ¦A *good* thing.
First line  \n¦Second line.\n\n¦Third.
a) One thing.\n¦b) Another thing.\n¦c) The last.
1) Go.\n¦2) Stop.
Term\n¦: Definition. ¦More.\n
Code:\n¦```js\nconst a = "x. Y";\n\n// Done. Ok.\n```\n¦And:\n¦```\nb\n```\n
* **A.** First. ¦Second.\n¦* **B.** Third.
The result is **42.** ¦That is all.
# Guide\n¦Welcome! ¦This is short.
## Dr. Jones\n\n¦A show.
- Eggs\n¦- Milk\n\n¦That's it. ¦Bye.
1. Mix. ¦Stir.\n¦2. Bake at 180°C.\n¦3. Eat!
**Q:** What is it?\n¦**A:** A tool. ¦It's free.
Run:\n\n¦```bash\nls -l. Foo\n```\n\n¦Then:\n\n¦```\nX. Y.\n```
Some *emphasis.* ¦Then more.
> Be brave.\n\n¦He was. ¦Really.
| a | b |\n¦| - | - |\n¦| Hi. There. | Yes! No. |
Use `git commit -m "Fix. Done."` now. ¦Push it.
***\n\n¦New section. ¦Go.
- **One.** ¦Yes. ¦No.\n¦- **Two.** ¦Maybe.
[Link](http://a.b/c.d). ¦Next one.
1. First:\n¦   - sub a\n¦   - sub b\n¦2. Second.
Final answer: **yes**. ¦Done.
The `?` makes it optional. ¦The `!` negates it.
It returns `null`. ¦`undefined` is different.
• One thing. ¦It is big.\n¦◦ Another thing. ¦It is small.
1.1. First part. ¦It is easy.\n¦1.2. Second part.
## 2. Setup\n\n¦Install it.\n\n¦### 2.1. Linux\n\n¦Use apt.
## Step 1. Install it\n\n¦Run it. ¦Wait.
**Answer: B.** ¦It is right.
(1) Open it. ¦(2) Close it.
- ✅ Fast. ¦Cheap.\n¦- ❌ Ugly.
A term.[^1] ¦More text.\n\n¦[^1]: The note. ¦It is long.
""",
)

NEWLINES = _cases(
    "en",
    r"""
One line\n¦Another line\n¦Third line
Dear John,\n\n¦I hope you are well. ¦I am fine.\n\n¦Best regards,\n¦Anna
Roses are red,\n¦violets are blue,\n¦sugar is sweet.
\n\nHello there. ¦How are you?\n
A\r\n¦B\r\n\r\n¦C. D
No stop here\n\n\n\n¦Next one
Question?\n¦Answer!\n
Title\n¦\tIndented. ¦More.\n
He said:\n¦"Go."\n¦She went.
e.g.\n¦this one
Mr.\n¦Smith
x = 1\n¦y = 2\n\n¦z = 3
Line with spaces   \n   \n¦Next. ¦Last.
"Open quote\n¦closed." ¦Next.
(open\n¦close) Next.
Poem one.\n\n¦Poem two. ¦Still two.\n\n\n¦Poem three.
a\n¦b\n¦c
Hi!\n\n¦How are you? ¦Fine.\n
Chapter 1\n\n¦It was dark. ¦It rained.
first line.\n¦second line.\n¦third.
Name: Bob\n¦Age: 5\n¦City: N.Y.
"Yes."\n¦"No."\n¦"Why?"
No end\n\n\n¦Still no end
1.5\n¦2.5\n¦3.5
Dear Dr. Lee,\n¦Thanks. ¦Yours,\n¦M.
x\r\n¦y! ¦Zed\r\n
well...\n¦ok\n
a: b;\n¦c, d\n
(See above.)\n¦Go on.
end.\n
One. ¦Two.\n¦Three. ¦Four.
I.\n\n¦The sea is blue.\n\n¦II.\n\n¦The sky is red.
INT./EXT. CAR - DAY\n\n¦INT. KITCHEN - NIGHT\n\n¦Rosa waits. ¦It rains.
Mon.–Fri. 9 a.m. to 6 p.m.\n¦Sat. 10 a.m. to 4 p.m.\n¦Tel. 555-0199
Scene ends.\n\n¦*\n\n¦Next scene.
""",
)

GERMAN = _cases(
    "de",
    r"""
Das ist gut. ¦Wir gehen jetzt. ¦Bis morgen.
Dr. Müller kommt um 8 Uhr. ¦Er bringt Kuchen mit.
Am 3. Oktober ist Feiertag. ¦Die Läden sind zu.
Es kostet ca. 5 Euro. ¦Das ist billig.
Das gilt z. B. für Hunde. ¦Katzen sind anders.
Das gilt z.B. für Hunde. ¦Katzen sind anders.
Nimm Äpfel, Birnen usw. mit. ¦Wir haben Hunger.
„Komm her!“, rief er. ¦Sie kam nicht.
Er sagte: „Ich gehe.“ ¦Dann ging er.
„Guten Tag. ¦Wie geht es Ihnen?“, fragte sie.
Das war 1990. ¦Danach wurde alles anders.
Prof. Dr. Meier hielt die Rede. ¦Alle klatschten.
Das Auto fährt max. 180 km/h. ¦Es ist alt.
Siehe Abb. 3 auf S. 15. ¦Dort steht es.
Die Fa. Bosch GmbH liefert. ¦Wir zahlen.
Wirklich? ¦Ja! ¦Natürlich.
Der Preis beträgt 3,50 Euro. ¦Das Angebot gilt bis zum 31. Dezember.
Kaiser Karl V. regierte lange. ¦Er dankte 1556 ab.
Im 19. Jahrhundert gab es viele Erfindungen. ¦Die Welt änderte sich.
Über allem steht die Freiheit. ¦Ältere Menschen wissen das. ¦Öfter als man denkt.
Ich weiß nicht … ¦Vielleicht morgen.
Das ist d. h. nicht erlaubt. ¦Also lass es.
Frau Dr. med. Schulz ist Ärztin. ¦Sie hilft gern.
Er wohnt in der Hauptstr. 5 in Köln. ¦Das Haus ist gelb.
Das Ergebnis ist 5. ¦Die Probe stimmt.
Herr K. wartete. ¦Niemand kam.
Gerne! ¦Hier ist die Antwort.
Berlin ist die Hauptstadt. ¦Sie hat ca. 3,7 Mio. Einwohner.
Der Zug fährt um 8.15 Uhr. ¦Bitte einsteigen.
Am 24. Dezember feiern wir. ¦Es gibt Gans.
„Was ist das?“ ¦„Ein Hund.“
Sie fragte: „Kommst du?“ ¦Er nickte.
Das ist der 3. Versuch. ¦Er klappt bestimmt.
Vgl. dazu Kap. 4. ¦Dort wird es erklärt.
Die Nr. 1 bin ich. ¦Du bist die Nr. 2.
Wir kaufen Obst, Gemüse etc. ein. ¦Danach kochen wir.
Ach so … ¦Das wusste ich nicht.
Ludwig XIV. war König. ¦Er lebte in Versailles.
Man nennt es u. a. Magie. ¦Ich nicht.
Es waren 20 Grad. ¦Die Sonne schien. ¦Ängste verschwanden.
Der Film dauert 2 Std. und 5 Min. ¦Er ist gut.
Äpfel, Birnen usw. ¦Das ist Obst.
Bspw. Hunde bellen. ¦Ich helfe dir. ¦Max hilft mir.
Versand zzgl. MwSt. und Porto. ¦Preise inkl. Steuern.
„Halt!“ ¦Niemand hielt an. ¦„Halt!“, rief er.
Das ist Plan B. ¦Er ist gut. ¦Herr K. Müller kommt.
Am Mo., 3. Mai, ist frei. ¦Danach nicht.
""",
)

ROMANCE = [
    *_cases(
        "fr",
        r"""
C'est bien. ¦Nous partons. ¦À demain.
M. Dupont est arrivé. ¦Il était en retard.
Mme Durand habite à Paris. ¦Elle aime la ville.
« Bonjour. » ¦Il partit.
« Vraiment ? » demanda-t-il. ¦Elle sourit.
Vous êtes sûr ? ¦Oui ! ¦Absolument.
Il a dit : « Je viens. ¦Attends-moi. » ¦Puis il a raccroché.
Le prix est de 3,50 euros. ¦C'est cher.
Voir p. 12 du livre. ¦Tout y est.
C'est fini… ¦Peut-être pas.
École, maison, etc. sont des mots. ¦Ils sont courts.
Été comme hiver, il court. ¦Éric aussi.
Il est né en 1985. ¦Sa sœur en 1990.
Le Dr. Martin est là. ¦Entrez.
Bien sûr ! ¦Voici la réponse.
J'ai vu M. Martin hier. ¦Il va bien.
Il y a 3,5 millions d'habitants. ¦C'est beaucoup.
« Où vas-tu ? » ¦« Chez moi. »
Voir la fig. 2 ci-dessous. ¦Elle montre tout.
Elle dit : « Non. » ¦Il partit.
C.-à-d. que c'est faux. ¦Point final.
Pommes, poires, etc. ¦Tout est bon.
Rome fut fondée en 753 av. J.-C. ¦Elle grandit vite.
J.-J. Rousseau est né à Genève. ¦Il aimait la nature.
Ah ! que c'est beau. ¦Regarde !
Un livre de J. Verne est ici. ¦Prends le plan B. ¦C'est mieux.
""",
    ),
    *_cases(
        "es",
        r"""
Hola. ¦¿Qué tal? ¦¡Muy bien!
El Sr. López vive aquí. ¦Su casa es azul.
La Dra. Ruiz llegó. ¦Todos aplaudieron.
¿De verdad? ¦Sí. ¦Claro que sí.
Cuesta 3.50 dólares. ¦Es barato.
Vive en EE. UU. desde 1990. ¦Le gusta.
Dijo: «Ya voy.» ¦Y se fue.
No sé... ¦Quizás mañana.
Ana preguntó: «¿Vienes?» ¦Él dijo que no.
Él nació en 1985. ¦Ella en 1990.
¡Claro! ¦Aquí tienes la respuesta.
El Dr. García llegó a las 5 p. m. y comió. ¦Luego durmió.
¿Cómo estás? ¦¿Y tu familia?
Compré pan, leche, etc. en la tienda. ¦Volví a casa.
Todo está bien. ¦Compré un auto. ¦Juan también.
No. ¦Eso es falso.
El presidente G. W. Bush habló. ¦Es el plan B. ¦Es bueno.
—¿Y tú? —preguntó ella. ¦Nadie respondió.
""",
    ),
    *_cases(
        "it",
        r"""
Ciao! ¦Come stai? ¦Io sto bene.
Il dott. Rossi è qui. ¦Entri pure.
Il sig. Bianchi vive a Roma. ¦È felice.
È vero. ¦Non ci credo.
Costa 3,50 euro. ¦È poco.
«Vieni?» chiese lei. ¦Lui disse di no.
Non lo so... ¦Forse domani.
È nato nel 1985. ¦Sua sorella nel 1990.
Porta pane, vino, ecc. alla festa. ¦Grazie.
Certo! ¦Ecco la risposta.
Il prof. Verdi insegna qui. ¦È bravo.
«Vado via.» ¦Poi uscì.
Vedi pag. 3 del libro. ¦È tutto lì.
Ho comprato un PC. ¦Il mio PC è nuovo.
Ha detto di no. ¦Mele, pere, ecc. ¦Tutto è buono.
Nel sec. XIX era così. ¦Dura 5 sec. ¦Poi finisce.
""",
    ),
    *_cases(
        "pt",
        r"""
O Sr. Silva chegou. ¦A Sra. Lima não veio.
Veja a pág. 5 e o cap. 2. ¦Obrigado.
O séc. XIX foi longo. ¦O séc. XX também.
— Vens? — perguntou ele. ¦Ninguém respondeu.
""",
    ),
]

CHINESE_AND_JAPANESE = [
    *_cases(
        "zh",
        r"""
你好。¦今天天气很好。¦我们去公园吧！
这是什么？¦我不知道。¦你呢？
价格是3.5元。¦很便宜。
他说：“你好。”¦然后走了。
“你去哪里？”她问。¦“回家。”
我用Python 3.11写代码。¦它很快。
真的吗？！¦太好了！！¦谢谢。
请访问www.example.com。¦那里有答案。
我不知道……也许明天吧。¦再说。
**第一步。**¦打开文件。¦**第二步。**¦保存。
太棒了！😀¦我们走吧。
好的！ ¦下一句。
版本2.0发布了。¦请更新。
第一段。\n\n¦第二段。¦结束。
（这是注释。）¦正文开始。
他买了苹果、香蕉等。¦然后回家了。
当然可以！¦这是答案。
圆周率约为3.14。¦它是无理数。
她说：“走吧！”¦我们就走了。
第一，打开门。¦第二，走进去。
《三体》是一本书。¦作者是刘慈欣。
你确定吗？¦当然。
好……¦再见。
今天是2024年5月1日。¦放假。
“真的？”小明问道。¦“真的。”她说。
（注意：重要。）¦请先保存文件（这一步不能省略！），再退出。
《谁动了我的奶酪？》是一本书。¦很有名。
１．打开。\n¦２．价格是１２．５元。¦很便宜。
他想了想……最后走了。¦没回头。
""",
    ),
    *_cases(
        "ja",
        r"""
こんにちは。¦今日はいい天気ですね。¦散歩に行きましょう！
「行こう。」と彼は言った。¦私は頷いた。
本当ですか？¦はい、本当です。
価格は3.5ドルです。¦安いですね。
東京（日本の首都。）は大きい。¦人も多い。
「おはよう。」¦「おはようございます。」
すごい！！¦やったね！
Pythonは楽しい。¦簡単です。
1. はじめに。\n¦2. 次に。
分かりません…でも、頑張ります。¦はい。
もちろんです！¦答えはこちらです。
彼は「はい。」と答えた。¦私は笑った。
円周率は約3.14です。¦無理数です。
え？！¦本当に？
それは…難しいですね。¦頑張ります。
「えっ…。」と声が出た。¦驚いた。
彼は「好き！」なんて言わない。¦私も。
Node.jsを使います。¦速いです。
""",
    ),
    *_cases(
        "en",
        r"""
你好。¦今天天气很好。¦Let's go. ¦好的！
你好!¦今天怎么样?¦很好.
こんにちは。¦元気ですか？¦はい！
Python很好。¦I like it. ¦真的。
他说“好。”¦然后走了。
我用ASP.NET。¦他用Node.js。
好的。¦我来帮你！¦Let me check. ¦没问题。
はい。¦そうです。
""",
    ),
]

# The first texts of each language are short enough for every possible cut.
ABBREVIATIONS = [
    *_cases(
        "el",
        r"""
Τι κάνεις; ¦Είμαι καλά.
Τι κάνεις; ¦Είμαι καλά.
Τι κάνεις; ¦Είμαι καλά. ¦Π.χ. Αθήνα είναι μεγάλη. ¦Ο κ. Παπαδόπουλος ήρθε. ¦Είναι εδώ. ¦Βλ. σελ. 12 και κεφ. 3. ¦Εκεί είναι. ¦Ο Δρ. Νικολάου ήρθε.
Μήλα, αχλάδια κ.λπ. ¦Μετά φύγαμε. ¦Μήλα, αχλάδια κ.ά. ¦Μετά φύγαμε. ¦Ο Αγ. Νικόλαος. ¦Το 44 π.Χ. πέθανε. ¦Στις 5 μ.μ. φύγαμε. ¦Ο Γ. Σεφέρης έγραψε.
Δηλ. Ελλάδα. ¦Αρ. 5 είναι. ¦Πού; ¦Πότε; ¦«Τι κάνεις;» ρώτησε ο Γιάννης. ¦«Καλά.» ¦Ήρθε; όχι ακόμα. ¦Τηλ. 210-123. ¦Καλέστε. ¦Λ.χ. Ελλάδα.
Πρβλ. Όμηρος. ¦Λεωφ. Συγγρού. ¦Οδ. Ερμού 5. ¦Η κ. Μαρία ήρθε. ¦Άρθρ. 5 παρ. 2. ¦Εικ. 3 και πίν. 2. ¦5 Ιαν. 2020 ήρθε. ¦Ποιος είναι; ¦Ο Γιάννης;
"Πού πας;" ¦"Σπίτι." ¦Γιατί; ¦5 φορές το είπα.
""",
    ),
    *_cases(
        "ru",
        r"""
т. е. Иван
им. Баумана
корп. 2
рис. 3 и табл. 4
доб. 12
Св. Николай
Напр. Киев
Он живёт в г. Москве на ул. Ленина, д. 5, кв. 12. ¦Потом переехал. ¦В 1812 г. Наполеон вошёл в Москву. ¦Он ушёл в октябре.
Он родился в 1980 г. ¦Потом учился в школе. ¦Книги, журналы и т. д. ¦Потом мы ушли. ¦Книги, журналы и т.п. лежат тут.
А. С. Пушкин родился в Москве. ¦Он поэт. ¦См. стр. 5 и гл. 3. ¦Там всё есть. ¦Это стоит 5 тыс. руб. в месяц. ¦Дорого.
Проф. Петров и акад. Иванов пришли. ¦Они спорили. ¦Г-н. Петров, т. к. он болен, не пришёл. ¦В XIX в. Россия росла. ¦В XX в. она менялась.
Встреча 5 янв. 2020 г. в Москве. ¦Приходите. ¦Население 3 млн. человек. ¦В т. ч. Москва и Санкт-Петербург. ¦Тел. 123-45-67, доб. 8. ¦Звоните.
Ср. Пушкин и Лермонтов. ¦Оба поэты. ¦Это произошло в 44 г. до н. э. ¦Потом пришёл Август. ¦Он сказал; она ушла. ¦Витамин С. ¦Он полезен.
Размер 10 см. ¦Вес 5 кг. ¦Цена 3 руб. ¦Ул. Ленина, д. 5. ¦Ст. 5 п. 2 закона. ¦Ю. А. Гагарин летал. ¦И. о. директора Петров. ¦Англ. Book значит книга.
В 2020 гг. Москва росла. ¦Им. Ленина завод. ¦См. Приложение 1. ¦Гр. Толстой писал. ¦С. 12. ¦Там всё. ¦Напр., Киев. ¦Обл. Киевская.
Просп. Мира, наб. Фонтанки, пл. Победы. ¦Телефон: тел. 5. ¦Г. Москва большая. ¦Дж. Смит пришёл. ¦Нач. отдела Иванов, зав. Кафедрой Петров.
Ред. Петров. ¦Я видел её; Он ушёл.
""",
    ),
    *_cases(
        "pl",
        r"""
W 1410 r. Polacy
Św. Jan
ks. Nowak
rys. 3
str. 12
tj. Polska
Urodził się w 1990 r. ¦Potem wyjechał. ¦Prof. Kowalski i dr hab. Nowak przyszli. ¦Byli zmęczeni. ¦Mieszka przy ul. Długiej 5, m. 3. ¦Lubi to.
Mieszka przy al. Jana Pawła. ¦Lubi to. ¦Owoce, np. Jabłka i gruszki. ¦Kupił chleb, masło itd. ¦Potem wyszedł. ¦Kupił m.in. Chleb.
Zob. rozdz. IV i tab. 2. ¦Tam jest. ¦W XIX w. Polska nie istniała. ¦To fakt. ¦Ok. 40 osób przyszło. ¦Zob. art. 5 ust. 2 pkt 3. ¦To ważne.
J. Kowalski przyszedł. ¦On tu jest. ¦Spotkanie 5 paź. 2020. ¦Przyjdź. ¦To kosztuje 5 tys. zł. ¦Nr. 5 jest mój. ¦Godz. 14.30 jest dobra.
W 753 r. p.n.e. Rzym powstał. ¦Por. Kmicic, gen. Anders, płk. Kukliński. ¦To oni. ¦Inż. Karwowski mieszka w Warszawie. ¦Bp. Nowak i o. Rydzyk.
Tzn. Polska wygrała. ¦Dr. Nowak. ¦Im. Jana Pawła. ¦Szkoła im. Kopernika. ¦Woj. Mazowieckie, pow. Warszawski, gm. Piaseczno. ¦Tel. 22 123. ¦Zadzwoń.
Św. Mikołaj i św. Piotr. ¦Pl. Wolności i os. Tysiąclecia. ¦Por. Nowak i wg. Kowalskiego. ¦W 1989 r. Polska odzyskała wolność.
W 1989 r. Polska. ¦Od 1990 r. Niemcy. ¦Było to w 1410 r. ¦Potem nic. ¦Pkt. 5 i poz. 6. ¦Red. Michnik napisał. ¦Firma S.A. Orlen. ¦Tzw. Polski Ład.
Dz. U. 2020 poz. 5.
""",
    ),
    *_cases(
        "nl",
        r"""
o.a. Utrecht
mevr. De Vries
Dhr. Jansen en dr. Bakker kwamen. ¦Ze waren moe. ¦Zie blz. 12 en fig. 3. ¦Daar staat het. ¦Fruit, bijv. Appels, is gezond.
Brood, melk, enz. ¦Daarna gingen we. ¦Prof. Dr. De Boer sprak. ¦D.w.z. Nederland wint. ¦Op 5 jan. 2020 begint het. ¦Ca. 40 mensen kwamen.
J. de Vries woont in Utrecht. ¦Hij werkt. ¦Nr. 5 is mooi. ¦De St. Jan is oud. ¦Rome werd in 753 v.Chr. gesticht.
Hij werkt bij Philips N.V. ¦Hij is blij. ¦Het duurt max. 5 min. ¦Daarna is het klaar. ¦Tel. 020-1234567. ¦Bel maar.
Mw. Jansen, mr. Visser en ir. Bos. ¦Zij zijn er. ¦Ing. Peters en drs. P. zongen. ¦T.a.v. Jan Jansen. ¦Art. 5 lid 2. ¦Dat is het. ¦A.u.b. Jan bellen.
N.a.v. Uw brief. ¦T.o.v. Duitsland. ¦Vgl. Jansen. ¦Resp. Jan en Piet. ¦I.p.v. Jan kwam Piet. ¦M.b.t. Utrecht. ¦Pag. 5 en hfst. 3. ¦O.a. Amsterdam.
Zgn. Experts.
""",
    ),
    *_cases(
        "sv",
        r"""
T.ex. Stockholm
Städer som t.ex. Stockholm är stora. ¦Vi såg bl.a. Göteborg. ¦Vi såg bl. a. Göteborg. ¦Se s. 12 och kap. 3. ¦Där finns det. ¦Kl. 14.30 börjar det.
Dr. Svensson kom. ¦Han var trött. ¦Äpplen, päron osv. ¦Sedan gick vi. ¦Äpplen, päron m.m. ¦Sedan gick vi. ¦Anna, Per m.fl. ¦De kom.
Dvs. Sverige vann. ¦D.v.s. Sverige vann. ¦F.d. Jugoslavien är borta. ¦Ca. 40 personer kom. ¦Nr. 5 är bra. ¦Den 5 jan. 2020 börjar det.
År 44 f.Kr. dog Caesar. ¦P.g.a. Anna gick vi. ¦Jfr. Strindberg. ¦Fig. 3 visar det. ¦J. Svensson kom. ¦Dr. Åkesson m.fl. kom. ¦Ev. Anna kommer.
M.a.o. Sverige vann. ¦T.o.m. Anna kom. ¦Fr.o.m. 5 maj. ¦Resp. Anna och Per. ¦Sid. 5, nr. 6, tel. 08-123. ¦Prof. Lund, doc. Berg, ing. Ek. ¦Inkl. Moms.
S.k. Experter.
""",
    ),
    *_cases(
        "nb",
        r"""
F.eks. Oslo
Byer som f.eks. Oslo er store. ¦Vi så bl.a. Bergen. ¦Se s. 12 og kap. 3. ¦Der står det. ¦Kl. 14.30 begynner det. ¦Dr. Hansen kom. ¦Han var trøtt.
Epler, pærer osv. ¦Så gikk vi. ¦Epler, pærer m.m. ¦Så gikk vi. ¦Dvs. Norge vant. ¦Ca. 40 kom. ¦Den 17. Mai feirer vi. ¦Nr. 5 er bra.
5. jan. 2020 begynner det. ¦Pga. Anna gikk vi. ¦Det koster 5 mill. kroner. ¦M.a.o. Norge vant. ¦Evt. Anna kommer. ¦Hr. Hansen og fr. Olsen.
Prof. Lund. ¦St. Olav var konge. ¦S.k. Eksperter. ¦Tlf. 22 33. ¦Ifm. Jul i Oslo.
""",
    ),
    *_cases(
        "da",
        r"""
bl.a. Aarhus
F.eks. Odense er stor. ¦Se s. 12 og kap. 3. ¦Der står det. ¦Kl. 14.30 begynder det. ¦Dr. Hansen kom. ¦Han var træt. ¦Æbler, pærer osv. ¦Så gik vi.
Æbler, pærer m.m. ¦Så gik vi. ¦Dvs. Danmark vandt. ¦Ca. 40 kom. ¦Den 5. Juni fejrer vi. ¦Nr. 5 er god. ¦D. 5. jan. 2020 begynder det.
Pga. Anna gik vi. ¦Jf. Kierkegaard. ¦Det koster 5 mio. kroner. ¦Hr. Jensen og fru Olsen. ¦Sct. Hans er i juni. ¦D.v.s. Danmark vandt.
Evt. Anna kommer. ¦Inkl. Moms. ¦Tlf. 22 33. ¦M.m. Sådan er det. ¦Ang. Odense. ¦Vedr. Odense. ¦S.k. Eksperter. ¦M.h.t. Anna.
""",
    ),
    *_cases(
        "id",
        r"""
pk. 14.30
tgl. 15
Bpk. Budi
Jl. Sudirman No. 5 ramai. ¦Dr. Budi dan Prof. Ani datang. ¦Mereka lelah. ¦Lihat hlm. 12 dan gb. 3. ¦Ada di sana.
Apel, jeruk, dll. ¦Kemudian kami pergi. ¦Yth. Bapak Budi. ¦Terima kasih. ¦Sdr. Budi, Ny. Ani. ¦H. Agus Salim pahlawan. ¦PT. Telkom besar.
Ir. Soekarno presiden. ¦Harga Rp. 5000 saja.
a.n. Budi Santoso. ¦Kec. Menteng, Kab. Bogor. ¦Telp. 021-12345. ¦Hubungi kami. ¦Pada 5 Jan. 2020 mulai. ¦Ayam, bebek, dsb. ¦Semua ada.
Rp. 5.000 murah. ¦Drs. Budi, Hj. Siti, Tn. Agus. ¦No. 5 dan gg. 3. ¦Ps. 5 ayat 2. ¦Prov. Jawa Barat. ¦Kel. Senayan. ¦Pkl. 08.00 mulai.
Pak Budi, S.H. Ketua. ¦Gd. Putih, Lt. 5.
s.d. 5 Mei.
""",
    ),
    *_cases(
        "tr",
        r"""
Örn. Ankara
vb. Ama
Cad. 5
Bkz. Şekil 3. ¦Orada var. ¦Bkz. s. 12 ve böl. 3. ¦Orada var. ¦Dr. Ahmet ve Prof. Ayşe geldi. ¦Yorgunlar. ¦Doç. Dr. Yılmaz konuştu. ¦İyiydi.
Atatürk Mah. Gül Sok. No. 5 adresi. ¦Atatürk Cad. No: 5. ¦Sn. Yılmaz geldi. ¦T.C. Anayasası önemlidir. ¦M.Ö. 44 yılında öldü.
Elma, armut vs. aldım. ¦Sonra gittim. ¦II. Mehmed İstanbul'u aldı. ¦19. Yüzyıl uzundu. ¦2. Dünya Savaşı bitti. ¦Hz. Muhammed geldi.
Tel. 0212-123. ¦Arayın. ¦Av. Demir geldi. ¦5. Bölüm başlıyor. ¦Türk A.Ş. büyüdü. ¦Yrd. Doç. Kaya geldi. ¦Öğr. Gör. Kaya geldi. ¦Alm. Haus demektir.
Örneğin: örn. İzmir. ¦Bul. 5, Sok. 3, Apt. 2. ¦İst. Üniv. Tıp Fak. Dekanı. ¦Krş. Ahmet. ¦Çev. Ahmet Kaya. ¦Uzm. Dr. Kaya.
Yzb. Kaya, Alb. Demir, Gen. Er. ¦No. 5 evi. ¦A. Kaya geldi. ¦Sok. No. 3. ¦Müh. Kaya. ¦İng. Book demek.
""",
    ),
    *_cases(
        "ro",
        r"""
Dl. Popescu
Str. Lungă
ap. 7
D-na. Ionescu și Dna. Pop. ¦Dr. Ionescu a venit. ¦Era obosit. ¦Vezi pag. 12 și cap. 3. ¦Acolo e.
Nr. 5 e al meu. ¦Mere, pere etc. ¦Apoi am plecat. ¦De ex. București e mare. ¦Sf. Nicolae vine. ¦Prof. Popa predă.
Bd. Unirii, bl. 3, sc. A, et. 2, ap. 7. ¦Jud. Cluj e mare. ¦Pe 5 ian. 2020 începe. ¦În 44 î.Hr. Cezar a murit. ¦Fig. 3 arată asta.
Tel. 021-123. ¦Sunați. ¦Cca. 40 de oameni. ¦I. L. Caragiale a scris. ¦Dna. Pop, Dra. Ion. ¦Al. Parcului și Șos. Kiseleff. ¦Cal. Victoriei.
Ing. Pop, arh. Ion, av. Radu. ¦Com. Bran, jud. Brașov. ¦Bl. 5, sc. B, et. 3. ¦P-ța Unirii; Str. Mare. ¦Gen. Antonescu, col. Popa. ¦Cf. Eminescu.
Dvs. Popescu.
""",
    ),
    *_cases(
        "lt",
        r"""
Pvz. Vilnius
T. y. Vilnius yra sostinė. ¦Žr. p. 12 ir pav. 3. ¦Ten yra. ¦Dr. Jonaitis atėjo. ¦Jis pavargo. ¦Obuoliai, kriaušės ir kt. ¦Paskui išėjome.
Obuoliai, kriaušės ir t. t. ¦Paskui išėjome. ¦Gedimino pr. 5 yra čia. ¦Vilniaus g. 5, but. 3. ¦2024 m. Vilnius šventė. ¦Gimė 1990 m. ¦Paskui išvyko.
Prof. Petraitis kalbėjo. ¦P. Jonas atėjo. ¦Šv. Kazimieras yra globėjas. ¦Nr. 5 yra mano. ¦XIX a. Lietuva augo. ¦Vad. Jonas. ¦Plg. Maironis.
Tel. 123. ¦Skambinkite. ¦5 tūkst. žmonių. ¦5 val. 30 min. ¦Kun. Jonas, gen. Petras. ¦Pr. Kr. Roma. ¦Vilniaus raj. Nemenčinė. ¦Str. 5, d. 3, t. II.
T. p. Vilnius. ¦Š. m. sausio 5 d. Vilniuje lijo. ¦Pav. 3 rodo.
""",
    ),
    *_cases(
        "de",
        r"""
Termin: 5. Nov. 2020 um 8 Uhr. ¦Danach frei.
Stand: 12. Dez. 2024.
Mo., 3. Feb. um acht
Termine: 1. Jan., 2. Feb. und 3. Apr. 2024
Er wurde 5. ¦Dann kam Max.
Termin: 5. Nov. 2020 um 8 Uhr. ¦Danach frei. ¦Es ist der 12. Sept. 2021. ¦Danach nicht. ¦Wir sehen uns am 5. Okt. ¦Dann reden wir.
Bestellt: 24. Aug. Geliefert: 30. Aug. 2020. ¦Er wurde 5. ¦Dann kam Max. ¦Vom 1. Jan. bis 31. Dez. 2024 gilt es. ¦Danach nicht.
Siehe Abs. 3 Nr. 4. ¦Das gilt. ¦Bzw. Max kommt. ¦Evtl. Montag. ¦Wir sehen. ¦Ggf. Anna fragen. ¦Sog. Experten reden. ¦Im 3. Kapitel steht es. ¦Lies es.
Hr. Müller und Fr. Schmidt kamen. ¦Sie gingen. ¦Die Firma Müller GmbH & Co. KG liefert. ¦Wir zahlen.
v. Chr. Geburt. ¦Rom wurde 753 v. Chr. gegründet. ¦Friedrich II. König von Preußen. ¦Er war groß. ¦Wir nehmen Plan B. ¦Max kommt mit.
Beim 2. Mal klappt es. ¦Es waren 25. ¦Einige gingen. ¦Mit freundl. Grüßen. ¦Kosten: ca. 5 Mio. Euro.
Am 1. und 2. Okt. 2021 sind wir da. ¦Danach nicht. ¦Heute ist der 5. Nov. ¦Wir feiern. ¦Fr., 5. Jan. 2024, 8 Uhr. ¦Kommen Sie.
Di. 7. Nov. um 10 Uhr. ¦Dann los.
15. Jan. bis 20. Feb. 2023. ¦Er ist 5. ¦Sie ist 6. ¦Alle sind jung. ¦Sie wurde 30. ¦Max wurde 31. ¦Anna nicht. ¦Treffen am 3. ¦Dann sehen wir weiter.
Das kostet 5. ¦Danach 6. ¦Geboren am 2. Feb. 1990 in Köln. ¦Er lebt dort. ¦Er kam am 24. Dezember. ¦Er ging am 31. Dezember.
Prof. Dr. med. Max Müller kam. ¦Er ging. ¦Es heißt Max. ¦Anna lacht. ¦Die Abk. Bsp. steht für Beispiel. ¦So ist es.
Das ist Nr. 5, S. 12, Z. 3. ¦Lies es. ¦Lt. Polizei war es so. ¦Tel. 030 123. ¦Ruf an. ¦Die Hrsg. Müller und Mayer. ¦Vgl. Anm. 5 und Bd. II.
Str. 5, Mannheim. ¦Er kam; Sie ging.
""",
    ),
    *_cases(
        "en",
        r"""
Run it on 21st. May. ¦Then rest.
Com. & Adm.
e.g. In
This is test E. ¦Turn left.
Run it on 21st. May. ¦Then rest. ¦Use tools, e.g. In the shop. ¦I.e. The end. ¦Press button E. ¦Turn left. ¦Take vitamin C. ¦Drink water.
See appendix A. ¦Read it. ¦Sgt. Pepper and Gov. Brown met. ¦They spoke. ¦See Fig. 3, Eq. 4, Sec. 5 and Ch. 6. ¦Read on.
Smith et al. 2020 showed it. ¦We agree. ¦On the 3rd. March we left. ¦It rained. ¦Johnson & Johnson Inc. & Co. are big. ¦They sell.
Cf. Smith for more. ¦Read it. ¦He lives on 5th Ave. ¦He likes it. ¦Meet at 10 a.m. in Rm. 5. ¦Bring a pen. ¦He met J. Smith. ¦They talked.
Dept. of State. ¦Viz. The cat. ¦Mr. & Mrs. Smith. ¦No. 5 and Nos. 6 are. ¦He got a B. ¦Tom got an A. ¦Nobody cared. ¦Visit St. Mary's and Mt. Fuji.
He came on Mon. Nov. 3. ¦Then left. ¦Option A. ¦Option B. ¦Option C. ¦It's grade A. ¦Buy it. ¦Hepatitis B. ¦Vaccines exist. ¦Figure 3. shows it.
Born Jan. 5. ¦Died Feb. 6. ¦Version E. ¦Turn it on. ¦This is test E. ¦Turn left. ¦They ran test E. ¦Everyone passed. ¦Type A. ¦Type B.
Written by A. Turner and E. Wood. ¦Read it. ¦The test by E. Turner was good. ¦Read it. ¦Go to gate E. ¦Boarding begins. ¦On the 2nd. June began.
5th. Oct. 2020 was it. ¦Press Ctrl+E. ¦Turn it on. ¦He is no. ¦Who are you; I am.
""",
    ),
    *_cases(
        "cs",
        r"""
5. Května
Bylo to 5. Května 1945. ¦Válka skončila. ¦Např. Praha je velká. ¦Viz str. 12 a obr. 3. ¦Tam to je. ¦Dr. Novák a Ing. Dvořák přišli. ¦Byli unavení.
Jablka, hrušky atd. ¦Potom jsme šli. ¦Sv. Václav je patron. ¦Tj. Praha vyhrála. ¦Karel IV. Lucemburský vládl. ¦Bylo jich 25. ¦Petr odešel.
Č. 5 je moje. ¦Tzv. Pražské jaro. ¦V r. 1989 se to stalo. ¦Nám. Míru a ul. Dlouhá. ¦V 19. Století rostla. ¦J. Novák přišel. ¦On tu je.
Škoda a.s. Mladá Boleslav. ¦Mgr. Černá učí.
3. Kapitola začíná. ¦Dne 12. Ledna 2020. ¦Dne 12. led. 2020 přišel. ¦Bylo mu 5. ¦Pak přišla Jana. ¦Viz kap. III.
P. Novák a pí. Nováková. ¦J. A. Komenský psal.
""",
    ),
    *_cases(
        "hu",
        r"""
3. Fejezet
Lásd a 3. Fejezetet. ¦Pl. Budapest nagy. ¦Dr. Kovács és Prof. Nagy jött. ¦Fáradtak. ¦Lásd a 12. o. és a 3. ábra. ¦Ott van.
Alma, körte stb. ¦Aztán mentünk. ¦Kb. 40 ember jött. ¦Szt. István király. ¦IV. Béla király volt. ¦2024. Május 5. van. ¦Ún. Kossuth-díj.
Ifj. Nagy Péter jött. ¦Özv. Kiss Jánosné jött. ¦1848. márc. 15. volt. ¦Magyar Kft. Budapest. ¦Az eredmény 25. ¦A próba jó. ¦Vö. Arany János.
Bp. Kossuth tér. ¦5. Oldal alja. ¦Péter 25. ¦Anna 30. ¦Pl. a Duna. ¦Ill. Pécs. ¦Ld. Arany. ¦Id. Kiss. ¦Tel. 123. ¦Az V. kerület.
""",
    ),
    *_cases(
        "fr",
        r"""
Voir p. ex. Paris. ¦M. Dupont, Mme. Durand et Mlle. Petit. ¦Le 5 janv. 2020 il vint. ¦Cf. Voltaire. ¦Av. Foch et bd. Hugo. ¦Art. 5 al. 2.
Env. 40 personnes. ¦St. Pierre. ¦Il vint; elle partit. ¦Il vint ; Elle partit.
""",
    ),
    *_cases(
        "es",
        r"""
P. ej. Madrid es grande. ¦Av. Juárez y C. Mayor. ¦Véase pág. 12 y fig. 3. ¦Sta. Teresa y S. Juan. ¦El 5 ene. 2020 vino. ¦Ud. Juan y Uds. Pedro.
Gral. Franco y Lic. Gómez. ¦Depto. 5 y núm. 6. ¦Aprox. 40 personas. ¦Muchas. ¦En 44 a. C. César murió. ¦Vino; Ella se fue.
""",
    ),
    *_cases(
        "it",
        r"""
Es. Roma è grande. ¦Ad es. Roma è grande. ¦Il sig. Rossi e la sig.ra Bianchi. ¦Cfr. Dante. ¦Il 5 gen. 2020 venne. ¦S. Francesco e l'ing. Ferrari.
Ca. 40 persone. ¦P.za Navona e V.le Europa. ¦Nel 44 a.C. Cesare morì. ¦Art. 5 e n. 6.
""",
    ),
    *_cases(
        "pt",
        r"""
P. ex. Lisboa é grande. ¦Av. Paulista e R. Augusta. ¦Eng. Silva e Dra. Lima. ¦Em 5 jan. 2020 veio. ¦Fig. 3 e art. 5. ¦Exmo. Senhor.
Aprox. 40 pessoas. ¦Muitas. ¦Em 44 a.C. César morreu. ¦Obs. Não use.
""",
    ),
    *_cases("no", "F.eks. Oslo er stor. ¦Den 17. Mai feirer vi."),
]

FORMULAS = _cases(
    "en",
    r"""
$\frac{a}{b}. c$
Let $\frac{a}{b}. c$ be it. ¦Then go on.
Let $x. Y$ be it. ¦Then $y$. ¦Done.
It is $a. B$ and $c! D$. ¦Then go.
It is \(f(a). B\) here. ¦Then \(c\). ¦Go.
It is \[a. B\] here. ¦Then go.
It is $$a. B$$ here. ¦Then go.
Is $f(x) = \text{one. Two}$ right? ¦Yes.
The set $\{x. y\}$ is. ¦Is $a < b? C$ so? ¦Yes.
It costs $5. ¦Then $6. ¦Now $7.50 or $5M. ¦That is between $5 and $6. ¦Or 5$. ¦Then 6$.
Set $HOME. ¦Then read $PATH. ¦It is $AAPL. ¦Use `$x. Y` here. ¦She paid $$. ¦He paid $$$. ¦Then he left.
Set $x = 5. ¦Then go on, far away from the dollar.
Use `$x` here. ¦Then `$y` there. ¦Set $x. ¦Then pay $5.
Set $x. ¦It is US$5 now.
""",
)
