import { json } from '@sveltejs/kit';

export function GET({ url }) {
	return json({ hello: url.searchParams.get('name') ?? 'world' });
}
